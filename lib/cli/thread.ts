import { Worker } from 'node:worker_threads';
import type { Command } from 'commander';
import { exitCodeOf, tell } from './exit.js';
import { abortOnInterrupt } from './interrupt.js';

/** A thread that does not come out of LibTorch for so long is not waited for. */
const GRACE_MILLISECONDS = 2_000;

/**
 * Runs a command again as it was given to this process, but in a worker thread: the main thread is free to serve signals
 * whatever LibTorch is doing. What is half written when a signal comes is removed, or passed over by the next call.
 */
export async function runInThread(command: Command): Promise<void> {
  const sentence = `${command.name()} was interrupted; the same command begins anew`;
  const worker = new Worker(new URL('./main.js', import.meta.url), { argv: process.argv.slice(2) });
  const interrupt = abortOnInterrupt(undefined, exitAtOnce);
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
export async function exitAtOnce(code: number): Promise<void> {
  const exit = await import('../tensor/index.js').then(
    ({ exitImmediately }) => exitImmediately,
    () => process.exit,
  );
  exit(code);
}
