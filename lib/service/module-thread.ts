import { Worker } from 'node:worker_threads';

/** Runs a module in a worker thread. Throws DOMException where `workerData` cannot be cloned. */
export function startThread(module: URL, workerData: unknown): Worker {
  // Not the file itself: a worker inherits the process's flags, and Node refuses a file under --input-type.
  return new Worker(`import(${JSON.stringify(module.href)})`, { eval: true, workerData });
}
