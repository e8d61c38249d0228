// The worker thread of a predictor: its own addon environment, its own tensors, no event loop of anybody else's.
import { parentPort, workerData } from 'node:worker_threads';
import {
  type AnsweredBy,
  chosenExit,
  classify,
  classifyByLayer,
  fileShapeOf,
  imageReadingOf,
  requireAnswer,
  TrainedRun,
} from '../finished/index.js';
import { requireThreads } from '../recipe/index.js';
import { modulesAt, toSend } from '../service/index.js';
import { onLibTorchMessage, scope, setThreads, type Tensor, tensor } from '../tensor/index.js';
import type { Answer, BatchRequest, FromWorker, NetworkFacts, NetworkRequest, ToWorker } from './messages.js';

const port = parentPort!;
const request = workerData as NetworkRequest;
const send = (message: FromWorker): void => port.postMessage(message);

onLibTorchMessage((text) => send({ type: 'libtorch', text }));

async function load(): Promise<TrainedRun> {
  const { path, threads, device, precision, code } = request;
  if (threads !== undefined) {
    requireThreads(threads);
    setThreads(threads);
  }
  const run = await TrainedRun.open(path, { device, precision, ...modulesAt(code) });
  try {
    requireAnswer(run, answeredBy(run));
    return run;
  } catch (error) {
    run.dispose();
    throw error;
  }
}

function answeredBy(run: TrainedRun): AnsweredBy {
  const { by = run.layers - 1 } = request;
  return by === 'chosen' ? chosenExit(run) : by;
}

const factsOf = (run: TrainedRun): NetworkFacts => ({
  classes: run.classes,
  inputShape: run.network.inputShape,
  layers: run.layers,
  device: run.device,
  precision: run.precision,
  notes: run.notes,
  reading: fileShapeOf(run) === null ? null : imageReadingOf(run),
});

function compute(run: TrainedRun, batch: BatchRequest): Answer {
  const { top } = batch;
  return scope(() => {
    const inputs = inputsOf(run, batch);
    const by = answeredBy(run);
    const byLayer = request.everyLayer ? classifyByLayer(run, inputs, { top }) : null;
    // Of a network that was trained end to end the list has the last layer alone.
    const ofLayer = typeof by === 'number' ? byLayer?.at(by - run.layers) : undefined;
    return { chosen: ofLayer ?? classify(run, inputs, { by, top }), byLayer };
  });
}

function inputsOf({ network, device }: TrainedRun, { inputs, count }: BatchRequest): Tensor {
  const shape = [count, ...network.inputShape];
  const values = network.inputShape.length === 1 ? new Float32Array(inputs.buffer) : inputs;
  return tensor(values, { shape, device });
}

try {
  const run = await load();
  port.on('message', (message: ToWorker) => {
    if (message.type === 'close') {
      run.dispose();
      send({ type: 'closed' });
      port.close();
      return;
    }
    try {
      send({ type: 'answer', answer: compute(run, message.batch) });
    } catch (error) {
      send({ type: 'failed', error: toSend(error) });
    }
  });
  send({ type: 'loaded', facts: factsOf(run) });
} catch (error) {
  send({ type: 'failed', error: toSend(error) });
  port.close();
}
