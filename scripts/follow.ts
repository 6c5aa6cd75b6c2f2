/** Shows what another process writes to a file, as soon as it is written. */
import { readSync } from "node:fs";
import process from "node:process";

/** Begins at the start of the file; the function that it returns ends it, and returns the whole text. */
export function follow(file: number): () => string {
  const decoder = new TextDecoder();
  const bytes = new Uint8Array(2 ** 16);
  let position = 0;
  let all = "";
  const show = () => {
    for (let count; (count = readSync(file, bytes, 0, bytes.length, position)) > 0;) {
      position += count;
      const text = decoder.decode(bytes.subarray(0, count), { stream: true });
      process.stdout.write(text);
      all += text;
    }
  };
  const timer = setInterval(show, 100);
  return () => {
    clearInterval(timer);
    show();
    return all;
  };
}
