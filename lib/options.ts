// Options objects, as public calls take them.

/**
 * Throws the error that `refuse` makes where `options` is no object: any other value in its place, such as a number, would
 * silently be no options. With `known`, the names that there are, also for another name: a misspelled option would silently be its
 * default. That holds for a name whose value is undefined, too; an option of `known` that is undefined is one that is left out.
 */
export function requireOptions(
  options: unknown,
  name: string,
  refuse: (problem: string) => Error,
  known?: readonly string[],
): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    const got = options === null ? 'null' : Array.isArray(options) ? 'an array' : typeof options;
    throw refuse(`expected an object for ${name}, got ${got}`);
  }
  if (known === undefined) return;
  // Inherited ones, too: they are read like the object's own.
  for (const option in options) {
    if (!known.includes(option)) throw refuse(`unknown option ${option}, expected ${known.join(', ')} for ${name}`);
  }
}
