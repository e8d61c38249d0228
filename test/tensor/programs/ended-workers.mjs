// Ends workers in the middle of what they do, again and again, and works on. Arguments: the compiled library.
import { setTimeout } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const library = isMainThread ? process.argv[2] : workerData.module;
/** @type {typeof import('../../../dist/tensor/index.js')} */
const { memoryStats, noGrad, ones, scope, setThreads } = await import(pathToFileURL(library).href);
setThreads(1);

if (isMainThread) {
  let ended = 0;
  for (let round = 0; round < 6; round++) {
    const worker = new Worker(new URL(import.meta.url), { workerData: { module: library, round } });
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    await setTimeout(20 + 7 * round);
    await worker.terminate();
    ended++;
  }
  const mainResult = scope(() =>
    ones([2, 2])
      .matmul(ones([2, 2]))
      .sum()
      .item(),
  );
  console.log(JSON.stringify({ ended, mainResult, mainLive: memoryStats().liveTensors }));
} else {
  // Kept tensors, tensors of a running scope, a recorded graph and a failing operator, when the end comes.
  const weight = ones([64, 64]);
  weight.requiresGrad = true;
  parentPort?.postMessage('working');
  for (;;) {
    scope(() => {
      weight.matmul(weight).sum().backward();
      noGrad(() => scope(() => weight.matmul(weight)));
      try {
        weight.matmul(ones([workerData.round + 1, 2]));
      } catch {
        ones([3]);
      }
    });
  }
}
