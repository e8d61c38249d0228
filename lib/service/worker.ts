// The worker thread of a training job: its own addon environment, its own tensors, no event loop of anybody else's.
import { parentPort, workerData } from 'node:worker_threads';
import { onLibTorchMessage } from '../tensor/index.js';
import { resume, type TrainingEvent, train } from '../training/index.js';
import type { FromWorker, JobInput, ToWorker } from './messages.js';
import { toSend } from './sent-error.js';

const port = parentPort!;
const input = workerData as JobInput;
const send = (message: FromWorker): void => port.postMessage(message);

onLibTorchMessage((text) => send({ type: 'libtorch', text }));

const controller = new AbortController();
port.on('message', (message: ToWorker) => {
  if (message.type === 'cancel') controller.abort();
});

try {
  const options = {
    signal: controller.signal,
    onEvent: (event: TrainingEvent) => send({ type: 'event', event }),
    ...input.options,
  };
  const outcome =
    input.kind === 'train'
      ? await train({
          recipe: input.recipe,
          ...(input.out === undefined ? {} : { out: input.out }),
          ...(input.startFrom === undefined ? {} : { startFrom: input.startFrom }),
          ...options,
        })
      : await resume(input.runDirectory, options);
  send({ type: 'finished', outcome });
} catch (error) {
  send({ type: 'failed', error: toSend(error) });
}
port.close();
