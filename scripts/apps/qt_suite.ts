/** Qt's own tests of the classes, built from Debian's sources. */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { buildFolder, cacheFolder, run, step } from "../platforms/common.ts";

/** A version of Qt. */
export interface QtSuite {
  readonly name: string;
  readonly packages: readonly string[];
  /** The name of Debian's package of the sources. */
  readonly source: string;
  readonly libraries: readonly string[];
  /** Below the folder of headers. */
  readonly headers: string;
  readonly moc: string;
}

/** Where Debian has the libraries and headers of this machine. */
const TRIPLET = "x86_64-linux-gnu";

export const qtSuites: readonly QtSuite[] = [
  {
    name: "qt5-tests",
    packages: ["qtbase5-dev", "qtbase5-private-dev", "g++"],
    source: "qtbase-opensource-src",
    libraries: ["Qt5Test", "Qt5Core"],
    headers: `/usr/include/${TRIPLET}/qt5`,
    moc: `/usr/lib/qt5/bin/moc`,
  },
  {
    name: "qt6-tests",
    packages: ["qt6-base-dev", "qt6-base-private-dev", "g++"],
    source: "qt6-base",
    libraries: ["Qt6Test", "Qt6Core"],
    headers: `/usr/include/${TRIPLET}/qt6`,
    moc: "/usr/lib/qt6/libexec/moc",
  },
];

/** The tests, each with the program that it starts. */
const TESTS = { qsharedmemory: "producerconsumer", qsystemsemaphore: "acquirerelease" } as const;

/** The test calls this function, which only developers' builds of Qt export. A segment's native key is its result. */
const NOT_EXPORTED = `
#include <private/qsharedmemory_p.h>
QString QSharedMemoryPrivate::makePlatformSafeKey(const QString &key, const QString &)
{
    return QSharedMemory(key).nativeKey();
}
`;

/** Downloads the sources of the installed version into a folder, with lists of packages of its own. */
function download(source: string, version: string, folder: string): void {
  const format = "deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)";
  const targets = ["Created-By: Packages", "Origin: Debian", "--format", format];
  const sources = path.join(folder, "sources.list");
  writeFileSync(sources, run("apt-get", ["indextargets", ...targets]));
  const options = {
    "Dir::Etc::SourceList": sources,
    "Dir::Etc::SourceParts": "/dev/null",
    "Dir::State::Lists": path.join(folder, "lists"),
    "Dir::Cache": path.join(folder, "cache"),
    "APT::Sandbox::User": "root", // which may write into the folder
  };
  mkdirSync(path.join(folder, "lists/partial"), { recursive: true });
  mkdirSync(path.join(folder, "cache/archives/partial"), { recursive: true });
  const args = Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  run("apt-get", [...args, "update"]);
  const what = ["source", "--download-only", "--only-source", `${source}=${version}`];
  run("apt-get", [...args, ...what], { cwd: folder });
}

/** Unpacks the tests alone, and returns the folder that contains them. */
function unpack(folder: string): string {
  const archive = readdirSync(folder).find((name) => /\.orig\.tar\.\w+$/.test(name));
  if (archive === undefined) throw new Error(`there is no archive of sources in ${folder}`);
  const tests = Object.keys(TESTS).map((name) => `*/tests/auto/corelib/kernel/${name}`);
  run("tar", ["-xf", archive, "--wildcards", "--no-same-owner", ...tests], { cwd: folder });
  const top = readdirSync(folder).find((name) => name.startsWith("qtbase-"));
  return path.join(folder, top!, "tests/auto/corelib/kernel");
}

function compile(suite: QtSuite, sources: string, target: string): void {
  const { headers, libraries, moc } = suite;
  const [version] = readdirSync(path.join(headers, "QtCore")).filter((name) => /^\d/.test(name));
  const includes = ["", "QtCore", "QtTest", `QtCore/${version}`, `QtCore/${version}/QtCore`]
    .map((name) => `-I${path.join(headers, name)}`);
  const flags = ["-std=c++17", "-fPIC", "-O1", "-DQT_TESTLIB_LIB", `-I${target}`, ...includes];
  const build = (output: string, ...files: string[]) =>
    run("g++", [
      ...[...flags, ...files, "-o", path.join(target, output)],
      ...[...libraries.map((name) => `-l${name}`), "-lrt"],
    ]);
  const helper = path.join(target, "not_exported.cpp");
  writeFileSync(helper, NOT_EXPORTED);
  for (const [name, program] of Object.entries(TESTS)) {
    const test = path.join(sources, name, `tst_${name}.cpp`);
    run(moc, [...includes, test, "-o", path.join(target, `tst_${name}.moc`)]);
    build(`tst_${name}`, test, ...name === "qsharedmemory" ? [helper] : []);
    build(`${program}_helper`, path.join(sources, name, program, "main.cpp"));
  }
}

/** Builds the tests of the installed version in the cache, and returns their folder. */
export function buildSuite(suite: QtSuite): string {
  const { name, packages, source } = suite;
  const format = "--showformat=${source:Version}";
  const version = run("dpkg-query", ["--show", format, packages[0]!]);
  const folder = path.join(cacheFolder("qt-tests"), `${name}-${version.replace(/[^\w.+-]/g, "-")}`);
  buildFolder(
    folder,
    (unfinished) =>
      step(`building Qt's own tests from ${source} ${version}`, () => {
        const downloads = path.join(unfinished, "sources");
        mkdirSync(downloads);
        download(source, version, downloads);
        compile(suite, unpack(downloads), unfinished);
        rmSync(downloads, { recursive: true });
      }),
  );
  return folder;
}

/** What a program of tests needs to find the one that it starts. */
export function suiteEnvironment(folder: string): NodeJS.ProcessEnv {
  return { PATH: `${folder}:${process.env["PATH"]}` };
}
