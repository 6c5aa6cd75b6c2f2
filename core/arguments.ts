/** @throws {TypeError} with `text` if `value` is a promise; a synchronous function cannot wait for it */
export function refuseThenable(value: unknown, text: string): void {
  const isThenable = typeof value === "object" && value !== null && "then" in value &&
    typeof value.then === "function";
  if (!isThenable) return;
  Promise.resolve(value).catch(() => {}); // the error is thrown already, so a rejection is ignored
  throw new TypeError(text);
}

/**
 * @param example options that the call could have, for the text
 * @throws {TypeError} if the options of a call are no object: a number, as which a timeout is often passed, has no `timeout`
 */
export function checkOptions(call: string, options: unknown, example?: string): void {
  const isArray = Array.isArray(options);
  if (typeof options === "object" && options !== null && !isArray) return;
  const hint = example === undefined ? "" : ` as in ${example},`;
  const found = isArray
    ? "an array"
    : typeof options === "function"
    ? "a function"
    : String(options);
  throw new TypeError(`${call}: the options must be an object,${hint} not ${found}`);
}

/** @throws {TypeError} if an argument or option is no function */
export function checkFunction(call: string, name: string, value: unknown): void {
  if (typeof value === "function") return;
  throw new TypeError(`${call}: ${name} must be a function, not ${typeof value}`);
}

/** @throws {TypeError} if an option is given and is neither `true` nor `false` */
export function checkBoolean(call: string, name: string, value: unknown): void {
  if (value === undefined || typeof value === "boolean") return;
  throw new TypeError(`${call}: ${name} must be a boolean, not ${typeof value}`);
}

/** @throws {TypeError | RangeError} if `size` is not a whole number of bytes that a number can hold exactly */
export function checkSize(operation: string, size: unknown): void {
  if (typeof size !== "number") {
    throw new TypeError(`SharedMemory.${operation}: size must be a number, not ${typeof size}`);
  }
  if (!Number.isSafeInteger(size)) {
    throw new RangeError(
      `SharedMemory.${operation}: size must be a whole number of bytes below 2^53, not ${size}`,
    );
  }
}

/** The largest value of a System V semaphore. */
const VALUE_MAX = 32767;

/** @throws {TypeError | RangeError} if `count` is not a whole number that a semaphore may have as its value */
export function checkCount(call: string, name: string, count: unknown): void {
  if (typeof count !== "number") {
    throw new TypeError(`${call}: ${name} must be a number, not ${typeof count}`);
  }
  if (!Number.isInteger(count) || count < 0 || count > VALUE_MAX) {
    throw new RangeError(
      `${call}: ${name} must be a whole number from 0 to ${VALUE_MAX}, not ${count}`,
    );
  }
}
