/**
 * The base of all errors that layerwise throws on purpose. The message says what is wrong, what was expected and what came;
 * `code` says it to programs, and stays the same. Whatever else an error knows are fields of its own, which pass between
 * threads.
 */
export abstract class LayerwiseError extends Error {
  abstract readonly code: string;
}
