import { native } from './native.js';

export type MessageHandler = (text: string) => void;

const warn: MessageHandler = (text) => process.emitWarning(text, 'LibTorchWarning');

let handler = warn;

function deliver(): void {
  for (const text of native.takeMessages()) handler(text);
}

native.listenForMessages(deliver);
// What came after the event loop's last turn.
process.on('exit', deliver);

/**
 * What LibTorch has to say, its warnings and what it logs, goes to `handle`: each text once in the life of the process, and
 * to one of the threads that have loaded the library. Default: a Node warning named LibTorchWarning. Null brings that back.
 */
export function onLibTorchMessage(handle: MessageHandler | null): void {
  handler = handle ?? warn;
}

/** Passes on what another thread was told. */
export const passLibTorchMessage = (text: string): void => handler(text);
