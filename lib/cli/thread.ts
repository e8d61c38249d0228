import { Worker } from 'node:worker_threads';
import type { Command } from 'commander';
import { readText } from '#scripts/support/files.mjs';
import { exitImmediately } from '../tensor/index.js';
import { exitCodeOf, tell } from './exit.js';
import { abortOnInterrupt } from './interrupt.js';

/** How long a thread that is busy in LibTorch is waited for. */
const GRACE_MILLISECONDS = 2_000;

/**
 * Runs a command again as it was given to this process, but in a worker thread: the main thread is free to serve signals
 * whatever LibTorch is doing. What is half written when a signal comes is removed, or passed over by the next call.
 */
export async function runInThread(command: Command): Promise<void> {
  const sentence = `${command.name()} was interrupted; the same command begins anew`;
  const interrupt = abortOnInterrupt(undefined, exitAtOnce);
  if (interrupt.signal.aborted) {
    interrupt.release();
    throw interrupt.explain(null, sentence);
  }
  const worker = new Worker(new URL('./main.js', import.meta.url), { argv: process.argv.slice(2) });
  let grace: NodeJS.Timeout | undefined;
  interrupt.signal.addEventListener('abort', () => {
    worker.postMessage('stop');
    grace = setTimeout(() => {
      const error = interrupt.explain(null, sentence);
      tell(error);
      exitAtOnce(exitCodeOf(error));
    }, GRACE_MILLISECONDS);
  });
  try {
    process.exitCode = await new Promise<number>((resolve, reject) => worker.on('error', reject).on('exit', resolve));
    if (interrupt.signal.aborted) throw interrupt.explain(null, sentence);
  } finally {
    clearTimeout(grace);
    interrupt.release();
  }
}

/** Without waiting for threads, where the addon is there to do it. */
export function exitAtOnce(code: number): void {
  try {
    exitImmediately(code);
  } catch {
    process.exit(code);
  }
}

/**
 * The process ends where its work does. LibTorch's own end takes a fifth of a second more, in which Node hears no signal and
 * the system's answer to one is to kill.
 */
export function skipLibTorchsEnd(): void {
  process.once('beforeExit', () => {
    if (!isLibTorchLoaded()) return;
    // Behind all other listeners, which are there by now.
    process.on('exit', () => exitAtOnce(Number(process.exitCode ?? 0)));
  });
}

/** By any thread of the process; false where the system does not tell. */
function isLibTorchLoaded(): boolean {
  return readText('/proc/self/maps').includes('libtorch');
}
