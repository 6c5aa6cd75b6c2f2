/**
 * The method by which `console.log` and `util.inspect` ask an object what to show of it: Node's, which
 * Bun and Deno call too.
 *
 * @internal
 */
export const CUSTOM_INSPECT: unique symbol = Symbol.for("nodejs.util.inspect.custom");

/**
 * What a runtime passes to that method: how deep it may yet go, how to show it, and its `util.inspect`.
 *
 * @internal
 */
export type InspectArguments = [
  depth: number | null,
  options: unknown,
  inspect: (value: unknown, options: unknown) => string,
];

/**
 * The name of an object's class, and `fields` as the runtime shows a plain object. Text, since Bun
 * does not show the name of a class that an object was given here.
 *
 * @param fields may throw, and does so for a prototype, a proxy or an object that was not constructed,
 * none of which has private fields: of those the name alone is shown
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
    // The name says enough.
  }
  return `${name} ${inspect(Object.fromEntries(known), options)}`;
}
