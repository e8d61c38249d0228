// Makes LibTorch warn, in the main thread and in a worker, and prints what its own lines stand between.
// Arguments: the compiled library, and "handle" to take the messages instead of leaving them to Node.
import { setTimeout } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { isMainThread, Worker, workerData } from 'node:worker_threads';

const [library, mode] = isMainThread ? process.argv.slice(2) : workerData;
/** @type {typeof import('../../../dist/tensor/index.js')} */
const { onLibTorchMessage, ones, scope, tensor } = await import(pathToFileURL(library).href);

/** LibTorch warns at each index of bytes, and in other words at each reading of an inner gradient. */
function warn() {
  scope(() => ones([2]).index([tensor(Uint8Array.of(1, 0))]));
}

if (isMainThread) {
  if (mode === 'handle') onLibTorchMessage((text) => console.log(`message: ${text}`));
  process.stderr.write('before\n');
  for (let i = 0; i < 3; i++) warn();
  process.stderr.write('after\n');
  const worker = new Worker(new URL(import.meta.url), { workerData: [library, mode] });
  await new Promise((resolve) => worker.on('exit', resolve));
  await setTimeout(50);
  process.stderr.write('end\n');
} else {
  warn();
}
