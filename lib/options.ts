// Options objects, as public calls take them.

/**
 * Throws the error that `refuse` makes where `options` is no object: any other value in its place, such as a number, would
 * silently be no options.
 */
export function requireOptions(options: unknown, name: string, refuse: (problem: string) => Error): void {
  if (typeof options === 'object' && options !== null && !Array.isArray(options)) return;
  const got = options === null ? 'null' : Array.isArray(options) ? 'an array' : typeof options;
  throw refuse(`expected an object for ${name}, got ${got}`);
}
