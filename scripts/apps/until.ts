import { setTimeout as delay } from "node:timers/promises";

/** Waits until a function returns a value; errors that it throws are tried again, and the last one is thrown at the end. */
export async function until<Result>(
  what: string,
  milliseconds: number,
  find: () => Promise<Result | undefined>,
): Promise<Result> {
  const end = performance.now() + milliseconds;
  for (;;) {
    let why = "";
    try {
      const found = await find();
      if (found !== undefined) return found;
    } catch (error) {
      why = `: ${error instanceof Error ? error.message : error}`;
    }
    if (performance.now() > end) {
      throw new Error(`${what}: not within ${milliseconds / 1000} s${why}`);
    }
    await delay(100);
  }
}
