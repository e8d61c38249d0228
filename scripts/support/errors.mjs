/** A failure that a person can mend. */
export class SetupError extends Error {
  /**
   * @param {string} code stable and meant for programs
   * @param {string} message
   * @param {object} [options]
   * @param {string | undefined} [options.mend] what to type or change; it is printed on a line of its own
   * @param {unknown} [options.cause]
   */
  constructor(code, message, { mend, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'SetupError';
    this.code = code;
    this.mend = mend;
  }
}

/**
 * The code of an error that has one: the system's, such as ENOENT, Node's or this project's.
 * @param {unknown} error
 * @returns {string | undefined}
 */
export function codeOf(error) {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/**
 * One line that says what went wrong, the system's error code included where there is one.
 * @param {unknown} error
 * @returns {string}
 */
export function reasonOf(error) {
  if (!(error instanceof Error)) return String(error);
  const text = error.message || codeOf(error) || error.name;
  // Connecting to a name with several addresses fails with an AggregateError whose own message is empty.
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  return text.trim();
}

/**
 * What the system said: "no space left on device (ENOSPC)", without the call and the path that Node puts around it.
 * @param {unknown} error
 */
export function systemReason(error) {
  const [, text] = /^\w+: (.*?), \w+/.exec(error instanceof Error ? error.message : '') ?? [];
  return text === undefined ? reasonOf(error) : `${text} (${codeOf(error)})`;
}
