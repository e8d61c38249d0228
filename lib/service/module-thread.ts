import { Worker } from 'node:worker_threads';

/** A timer or a socket of a module of the user's own must not keep a thread whose work is done. */
const GRACE_MILLISECONDS = 1_000;

/** Ends a thread whose work is done, where it does not end by itself. */
export function endSoon(worker: Worker): void {
  const grace = setTimeout(() => void worker.terminate(), GRACE_MILLISECONDS);
  worker.once('exit', () => clearTimeout(grace));
}

/** Runs a module in a worker thread. Throws DOMException where `workerData` cannot be cloned. */
export function startThread(module: URL, workerData: unknown): Worker {
  // Not the file itself: a worker inherits the process's flags, and Node refuses a file under --input-type.
  return new Worker(`import(${JSON.stringify(module.href)})`, { eval: true, workerData });
}
