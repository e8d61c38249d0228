// What LibTorch itself has to say: its warnings, and what it logs. This module does not load it.
import { TensorError } from './errors.js';

/** Takes the text of one of LibTorch's messages. */
export type MessageHandler = (text: string) => void;

const warn: MessageHandler = (text) => process.emitWarning(text, 'LibTorchWarning');

/** `process.emitWarning` waits for a tick, which does not come any more. */
const warnAtExit: MessageHandler = (text) =>
  process.emit('warning', Object.assign(new Error(text), { name: 'LibTorchWarning' }));

let handler = warn;

/**
 * LibTorch's messages go to `handle`: each text once in the life of the process, and to one of the threads that have loaded
 * the library. Default: a Node warning named LibTorchWarning. Null brings that back. Throws TensorError for what is no function.
 */
export function onLibTorchMessage(handle: MessageHandler | null): void {
  if (handle !== null && typeof handle !== 'function') {
    throw new TensorError({
      code: 'INVALID_ARGUMENT',
      operator: 'onLibTorchMessage',
      message: `expected a function or null for handle, got ${typeof handle}`,
    });
  }
  handler = handle ?? warn;
}

/** Gives a message to this thread's handler. */
export const passLibTorchMessage = (text: string): void => handler(text);

/** The same while the process exits. */
export const passLibTorchMessageAtExit = (text: string): void => (handler === warn ? warnAtExit : handler)(text);
