/** @throws {TypeError} with `text` if `value` is a promise; a synchronous function cannot wait for it */
export function refuseThenable(value: unknown, text: string): void {
  const isThenable = typeof value === "object" && value !== null && "then" in value &&
    typeof value.then === "function";
  if (!isThenable) return;
  Promise.resolve(value).catch(() => {}); // the error is thrown already, so a rejection is ignored
  throw new TypeError(text);
}
