import process from "node:process";

/**
 * Returns the SHA-1 of a text in hex. `node:crypto` is loaded on first use: it takes up to 10 ms, which a program that
 * imports the module need not wait for.
 */
export function sha1(text: string, encoding: "utf8" | "utf16le"): string {
  const { createHash } = process.getBuiltinModule("node:crypto");
  return createHash("sha1").update(text, encoding).digest("hex");
}
