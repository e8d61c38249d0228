// Four workers compute at once, each with as many tensors as its number, and report. Arguments: the compiled library.
import { pathToFileURL } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const library = isMainThread ? process.argv[2] : workerData.module;
/** @type {typeof import('../../../dist/tensor/index.js')} */
const { isGradEnabled, memoryStats, noGrad, ones, scope, setThreads, TensorError, tensor } = await import(
  pathToFileURL(library).href
);
setThreads(1);

if (isMainThread) {
  const kept = ones([1]);
  /** @param {Worker} worker */
  const report = (worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  // The mode of this thread is not that of the workers it starts.
  const started = noGrad(() =>
    Array.from({ length: 4 }, (_, i) =>
      report(new Worker(new URL(import.meta.url), { workerData: { module: library, i } })),
    ),
  );
  const workers = await Promise.all(started);
  console.log(JSON.stringify({ workers, mainLive: memoryStats().liveTensors, mainGradEnabled: isGradEnabled() }));
  kept.dispose();
} else {
  const factor = workerData.i + 1;
  const mine = Array.from({ length: factor }, () => ones([100, 100]));
  // Long enough that the workers overlap.
  let gradient;
  for (let round = 0; round < 300; round++) {
    scope(() => {
      const x = tensor([1, 1, 1]);
      x.requiresGrad = true;
      x.mul(x).mul(factor).sum().backward();
      gradient = x.grad?.toArray();
      mine[0].matmul(mine[0]);
      noGrad(() => x.add(1));
    });
  }
  let error;
  try {
    scope(() =>
      ones([factor])
        .add(ones([factor + 10]))
        .add(ones([factor + 20])),
    );
  } catch (caught) {
    error = caught instanceof TensorError ? caught.code : String(caught);
  }
  const liveDuring = memoryStats().liveTensors;
  for (const each of mine) each.dispose();
  parentPort?.postMessage({
    liveDuring,
    liveAfter: memoryStats().liveTensors,
    gradient,
    error,
    gradOutside: isGradEnabled(),
  });
}
