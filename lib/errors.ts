/**
 * The base class of layerwise's errors, except WriteError and LockLostError, which the set-up throws too. The message says what
 * is wrong, what was expected and what came. `code` is for programs and does not change. Further facts are fields of their own;
 * they are kept when an error is sent between threads.
 */
export abstract class LayerwiseError extends Error {
  abstract readonly code: string;
}
