// What LibTorch itself has to say: its warnings, and what it logs. This module does not load it.

/** Takes the text of one of LibTorch's messages. */
export type MessageHandler = (text: string) => void;

const warn: MessageHandler = (text) => process.emitWarning(text, 'LibTorchWarning');

/** `process.emitWarning` waits for a tick, which does not come any more. */
const warnAtExit: MessageHandler = (text) =>
  process.emit('warning', Object.assign(new Error(text), { name: 'LibTorchWarning' }));

let handler = warn;

/**
 * LibTorch's messages go to `handle`: each text once in the life of the process, and to one of the threads that have loaded
 * the library. Default: a Node warning named LibTorchWarning. Null brings that back.
 */
export function onLibTorchMessage(handle: MessageHandler | null): void {
  handler = handle ?? warn;
}

/** Gives a message to this thread's handler. */
export const passLibTorchMessage = (text: string): void => handler(text);

/** The same while the process exits. */
export const passLibTorchMessageAtExit = (text: string): void => (handler === warn ? warnAtExit : handler)(text);
