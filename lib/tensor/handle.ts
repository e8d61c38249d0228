/** The handle that stands for "no tensor" in an optional argument. */
export const NONE = 0;

/** The handle of a disposed tensor: the native side knows no tensor by it. */
export const DISPOSED = -1;

/** The handles of a list of tensors, as the native side takes them. */
export function handlesOf(tensors: readonly { readonly handle: number }[]): Int32Array {
  const handles = new Int32Array(tensors.length);
  for (let i = 0; i < tensors.length; i++) handles[i] = tensors[i]!.handle;
  return handles;
}

/** The handle of an optional tensor or generator. */
export function handleOrNone(owner: { readonly handle: number } | null): number {
  return owner === null ? NONE : owner.handle;
}

/** The code of an optional name. */
export function codeOrNull<T>(value: T | null, code: (value: T) => number): number | null {
  return value === null ? null : code(value);
}
