/** @throws {TypeError} with `text` if `value` is a promise, for which nothing here can wait */
export function refuseThenable(value: unknown, text: string): void {
  const isThenable = typeof value === "object" && value !== null && "then" in value &&
    typeof value.then === "function";
  if (!isThenable) return;
  Promise.resolve(value).catch(() => {}); // what it may reject with comes too late
  throw new TypeError(text);
}
