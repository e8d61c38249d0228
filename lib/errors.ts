/**
 * The base of the errors that are layerwise's own; what it shares with the set-up, WriteError and LockLostError, are errors beside
 * it. The message says what is wrong, what was expected and what came;
 * `code` says it to programs, and stays the same. Whatever else an error knows are fields of its own, which pass between
 * threads.
 */
export abstract class LayerwiseError extends Error {
  abstract readonly code: string;
}
