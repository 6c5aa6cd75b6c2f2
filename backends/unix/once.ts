/** Returns a function that calls `read` only once for each library, and keeps what it returned. */
export function once<Library extends object, Value>(
  read: (library: Library) => Value,
): (library: Library) => Value {
  const values = new WeakMap<Library, Value>();
  return (library) => {
    let value = values.get(library);
    if (value === undefined) values.set(library, value = read(library));
    return value;
  };
}
