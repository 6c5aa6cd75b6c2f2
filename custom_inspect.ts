/**
 * This symbol names the method by which `console.log` and `util.inspect` ask an object what to show of it. It is
 * Node's, and Bun and Deno call the method too.
 *
 * @internal
 */
export const CUSTOM_INSPECT: unique symbol = Symbol.for("nodejs.util.inspect.custom");

/**
 * These are the arguments of that method: the remaining depth, the options of `util.inspect`, and `util.inspect`
 * itself.
 *
 * @internal
 */
export type InspectArguments = [
  depth: number | null,
  options: unknown,
  inspect: (value: unknown, options: unknown) => string,
];

/**
 * Returns the name of the class of `object`, followed by `fields` as the runtime shows a plain object. The result is
 * text, since Bun would not show the class name of an object that is returned here.
 *
 * @param fields returns what to show. It throws for a prototype, a proxy or an object that was not constructed, since
 * those have no private fields; then only the name is shown
 * @internal
 */
export function shown(
  object: object,
  [depth, options, inspect]: InspectArguments,
  fields: () => object,
): string {
  const name = object.constructor?.name ?? "Object";
  if (depth !== null && depth < 0) return `[${name}]`;
  let known: [string, unknown][] = [];
  try {
    known = Object.entries(fields()).filter(([, value]) => value !== undefined);
  } catch {
    // Only the name is shown.
  }
  return `${name} ${inspect(Object.fromEntries(known), options)}`;
}
