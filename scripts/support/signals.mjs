/** Closer together than anybody types, further apart than one key press arrives by two ways. */
const sameKeyPressMs = 150;

/**
 * A Ctrl-C typed at `npm run` arrives twice: the terminal sends it to the whole group, and npm passes it on besides. A
 * program that treats the second one as impatience (finish the step, then stop at once) must see one. Node hands each
 * signal to process.emit, which is where the echo is dropped; call this before anything listens.
 */
export function deliverInterruptsOnce() {
  const emit = process.emit;
  let last = Number.NEGATIVE_INFINITY;
  /**
   * @param {string | symbol} event
   * @param {unknown[]} args
   * @returns {boolean}
   */
  function emitOnce(event, ...args) {
    if (event === 'SIGINT') {
      const now = performance.now();
      const isEcho = now - last < sameKeyPressMs;
      last = now;
      if (isEcho) return true;
    }
    return Reflect.apply(emit, process, [event, ...args]);
  }
  Object.assign(process, { emit: emitOnce });
}
