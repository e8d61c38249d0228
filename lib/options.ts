// Options objects, as public calls take them.

/**
 * Throws the error that `refuse` makes where `options` is no object: another value, such as a number, would silently mean no
 * options. With `known`, the names of all options, it throws for any other name too, even where its value is undefined: a
 * misspelled option would silently have its default. A known option that is undefined is left out.
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
