/** What the checks and the tests read out of the documentation: blocks of code, links and headings. */
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

export interface Block {
  /** `ts`, `python`, `console`, …; `""` if the fence says none. */
  readonly language: string;
  /** The file that the line before it names as **`file`**, `""` if there is none. */
  readonly file: string;
  readonly text: string;
  /** The line of its fence, from 1. */
  readonly line: number;
}

export interface Link {
  readonly target: string;
  /** From 1. */
  readonly line: number;
}

/** Folders that are not the repository's own. */
const FOREIGN = new Set(["node_modules", "dist", ".git", "build"]);

/** Every Markdown file below `root`, relative to it. */
export function markdownFiles(root: string, folder = ""): string[] {
  const entries = readdirSync(path.join(root, folder), { withFileTypes: true });
  return entries.flatMap((entry) => {
    const name = path.posix.join(folder, entry.name);
    if (entry.isDirectory()) return FOREIGN.has(entry.name) ? [] : markdownFiles(root, name);
    return entry.name.endsWith(".md") ? [name] : [];
  }).sort();
}

/** The pages whose TypeScript is checked and run, relative to `root`. */
export function pages(root: string): string[] {
  return markdownFiles(root).filter((file) => file === "README.md" || file.startsWith("docs/"));
}

/** The blocks of code between fences, in their order. */
export function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = [];
  const lines = markdown.split("\n");
  for (let i = 0; i < lines.length; i++) {
    const fence = /^( *)(`{3,}) *(\S*)/.exec(lines[i]!);
    if (fence === null) continue;
    const [, indent = "", ticks = "", language = ""] = fence;
    let end = i + 1;
    while (end < lines.length && lines[end]!.trim() !== ticks) end++;
    const named = lines.slice(Math.max(0, i - 2), i).join("\n");
    const file = /^ *\*\*`([^`]+)`\*\*\n?$/m.exec(named)?.[1] ?? "";
    const text = lines.slice(i + 1, end).map((line) => line.slice(indent.length) + "\n").join("");
    blocks.push({ language, file, text, line: i + 1 });
    i = end;
  }
  return blocks;
}

/** The lines, with what is code emptied: links and headings in it are none. */
function proseOf(markdown: string): string[] {
  const lines = markdown.split("\n");
  for (const { text, line } of blocksOf(markdown)) {
    const end = line + text.split("\n").length; // the closing fence too
    lines.fill("", line - 1, end);
  }
  return lines;
}

/**
 * The text with other targets of its inline links and images. A link whose target is `null` becomes its
 * text, and such an image its description.
 */
export function withLinks(
  markdown: string,
  targetOf: (target: string, isImage: boolean) => string | null,
): string {
  const prose = proseOf(markdown);
  const replace = (line: string, pattern: RegExp) =>
    line.replace(pattern, (_, mark: string, text: string, target: string) => {
      const other = targetOf(target, mark === "!");
      return other === null ? text : `${mark}[${text}](${other})`;
    });
  return markdown.split("\n").map((line, index) => {
    if (prose[index] === "") return line;
    const withImages = replace(line, /(!)\[([^\][]*)\]\(([^()\s]+)\)/g);
    return replace(withImages, /((?<!!))\[((?:[^\][]|!\[[^\][]*\]\([^()\s]+\))*)\]\(([^()\s]+)\)/g);
  }).join("\n");
}

/** What inline links, reference definitions and images lead to. */
export function linksOf(markdown: string): Link[] {
  return proseOf(markdown).flatMap((text, index) => {
    const plain = text.replace(/`[^`]*`/g, (code) => "x".repeat(code.length));
    const inline = plain.matchAll(/\]\(<?([^()\s<>]+(?:\([^()\s]*\))?)>?(?: "[^"]*")?\)/g);
    const defined = plain.matchAll(/^ *\[[^\]]+\]: *<?(\S+?)>?(?: |$)/g);
    const html = plain.matchAll(/<(?:a|img|source)\b[^>]*? (?:href|src|srcset)="([^"]+)"/g);
    return [...inline, ...defined, ...html].map(([, target]) => ({
      target: target!,
      line: index + 1,
    }));
  });
}

/** The anchors that GitHub gives the headings, and those that are set by hand. */
export function anchorsOf(markdown: string): Set<string> {
  const anchors = new Set<string>();
  for (const line of proseOf(markdown)) {
    for (const [, id] of line.matchAll(/<a (?:id|name)="([^"]+)"/g)) anchors.add(id!);
    const heading = /^#{1,6} +(.*?) *#*$/.exec(line)?.[1];
    if (heading === undefined) continue;
    const slug = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase()
      .replace(/[^\p{Letter}\p{Mark}\p{Number}\p{Connector_Punctuation} -]/gu, "")
      .replace(/ /g, "-");
    let [anchor, count] = [slug, 0];
    while (anchors.has(anchor)) anchor = `${slug}-${++count}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** What is wrong with the links of a file below `root`, and with the tests that it names as a proof. */
export function problemsOf(root: string, file: string, tests: ReadonlySet<string>): string[] {
  const markdown = readFileSync(path.join(root, file), "utf8");
  const problems: string[] = [];
  for (const { target, line } of linksOf(markdown)) {
    const problem = linkProblem(root, file, target);
    if (problem !== null) problems.push(`${file}:${line}: ${target}: ${problem}`);
  }
  proseOf(markdown).forEach((text, index) => {
    for (const [, name] of text.matchAll(/`(?:tests\/(?:\w+\/)*)?(\w+_test\.ts)`/g)) {
      if (!tests.has(name!)) problems.push(`${file}:${index + 1}: there is no test ${name}`);
    }
  });
  return problems;
}

/** Links into the network are left alone. */
function linkProblem(root: string, file: string, target: string): string | null {
  if (/^[a-z][a-z+.-]*:/i.test(target)) return null;
  if (target.startsWith("/")) return "is absolute";
  const [name = "", anchor] = target.split("#").map(decodeURIComponent);
  const found = name === "" ? file : path.posix.join(path.posix.dirname(file), name);
  if (found.startsWith("..")) return "leads out of the repository";
  const text = contentOf(path.join(root, found));
  if (text === null) return "is not there";
  if (anchor === undefined || (found.endsWith(".md") && anchorsOf(text).has(anchor))) return null;
  return `has no heading #${anchor}`;
}

/** `""` of a folder, `null` of what is not there. */
function contentOf(file: string): string | null {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    return (error as { code?: string }).code === "EISDIR" ? "" : null;
  }
}
