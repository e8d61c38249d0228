// The worker thread of a training job: its own addon environment, its own tensors, no event loop of anybody else's.
import { readlinkSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { onLibTorchMessage } from '../tensor/index.js';
import { resume, type TrainingEvent, train } from '../training/index.js';
import type { FromWorker, JobInput, ToWorker } from './messages.js';
import { modulesAt } from './sent-code.js';
import { toSend } from './sent-error.js';

const port = parentPort!;
const input = workerData as JobInput;
const send = (message: FromWorker): void => port.postMessage(message);

onLibTorchMessage((text) => send({ type: 'libtorch', text }));

const controller = new AbortController();
port.on('message', (message: ToWorker) => {
  if (message.type === 'stop') controller.abort();
});

try {
  const { code, niceness, ...given } = input.options;
  if (niceness !== undefined) stepBack(niceness);
  const options = {
    signal: controller.signal,
    onEvent: (event: TrainingEvent) => send({ type: 'event', event }),
    ...given,
    ...modulesAt(code),
  };
  const outcome =
    input.kind === 'train'
      ? await train({
          recipe: input.recipe,
          ...(input.out === undefined ? {} : { out: input.out }),
          ...(input.startFrom === undefined ? {} : { startFrom: input.startFrom }),
          ...(input.orResume === undefined ? {} : { orResume: input.orResume }),
          ...options,
        })
      : await resume(input.runDirectory, options);
  send({ type: 'finished', outcome });
} catch (error) {
  send({ type: 'failed', error: toSend(error) });
}
port.close();

/** Of this thread, and of those that it starts, such as LibTorch's: Linux takes the id of a thread for that of a process. */
function stepBack(niceness: number): void {
  const thread = Number(readlinkSync('/proc/thread-self').split('/')[2]);
  setPriority(thread, Math.min(getPriority(thread) + niceness, 19));
}
