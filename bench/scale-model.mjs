// How long a training step takes on several GPUs, by arithmetic; docs/scale.md has the formulae and their sources. Times are in seconds,
// sizes in bytes, rates in units a second.

/**
 * One direction of a connection. A message of S bytes takes latency + S / bandwidth.
 * @typedef {{ bandwidth: number, latency: number }} Link
 *
 * Nodes of `perNode` GPUs: `inside` connects two GPUs of a node, `between` two nodes, with the bandwidth of all cards of a node.
 * @typedef {{ perNode: number, inside: Link, between: Link }} Cluster
 *
 * One GPU: operations a second that products reach, bytes a second that its memory reaches, and the seconds that the host needs in a
 * step for each tensor that trains, however few the images are.
 * @typedef {{ operations: number, memory: number, host: number }} Gpu
 *
 * What one step of a stage takes: operations an image; bytes of each tensor of its gradients; channels of each batch norm that trains.
 * @typedef {{ operations: number, gradients: readonly number[], channels: readonly number[] }} Work
 *
 * Seconds of a step: of computing, of batch norm's statistics, and of the sum of the gradients; without and with overlap.
 * @typedef {{ compute: number, statistics: number, sum: number, alone: number, overlapped: number }} StepTime
 */

/** Bytes of a message of gradients at most, unless one tensor is larger: BUCKET_BYTES of lib/training/shared-steps.ts. */
export const BUCKET_BYTES = 25 * 2 ** 20;
/** Images of a process below which batch norm is synchronised: FEW_IMAGES of lib/recipe/resolve-recipe.ts. */
export const FEW_IMAGES = 32;
/** Passes over the gradients' bytes of an update by SGD with momentum: gradient, weight and momentum read, the last two written. */
const UPDATE_PASSES = 5;
/** And of packing messages and unpacking them: each reads and writes. */
const PACKING_PASSES = 4;
/** Batch norm sends float64. */
const STATISTIC_BYTES = 8;

/** @param {readonly number[]} values */
export const total = (values) => values.reduce((sum, value) => sum + value, 0);

/** @param {readonly number[]} values @param {number} ranks */
function requireRanks(values, ranks) {
  if (!values.every((value) => value >= 0))
    throw new RangeError(`expected bytes of at least 0, got ${values.join(', ')}`);
  if (!Number.isInteger(ranks) || ranks < 1)
    throw new RangeError(`expected an integer of at least 1 for ranks, got ${ranks}`);
}

/**
 * Bytes that each rank sends in an all-reduce by a ring: 2 (N - 1) / N S.
 * @param {number} bytes
 * @param {number} ranks
 */
export function sentBytes(bytes, ranks) {
  requireRanks([bytes], ranks);
  return (2 * (ranks - 1) * bytes) / ranks;
}

/**
 * An all-reduce by one ring: 2 (N - 1) / N S / B + 2 (N - 1) a.
 * @param {number} bytes
 * @param {number} ranks
 * @param {Link} link
 */
export const ringSeconds = (bytes, ranks, { bandwidth, latency }) =>
  sentBytes(bytes, ranks) / bandwidth + 2 * (ranks - 1) * latency;

/**
 * So many GPUs as nodes. Throws RangeError where they fill some nodes and a part of another.
 * @param {number} gpus
 * @param {Cluster} cluster
 */
function nodesOf(gpus, { perNode }) {
  requireRanks([], gpus);
  if (gpus <= perNode) return { inNode: gpus, nodes: 1 };
  if (gpus % perNode !== 0) throw new RangeError(`expected whole nodes of ${perNode} GPUs, got ${gpus} GPUs`);
  return { inNode: perNode, nodes: gpus / perNode };
}

/**
 * An all-reduce by rings within the nodes and between them: a node's GPUs sum their parts (half a ring), GPU i of every node sums part i
 * with the others' (a ring; the g of them share the node's cards), the node's GPUs gather the parts (the other half).
 * @param {number} bytes
 * @param {number} gpus
 * @param {Cluster} cluster
 */
export function allReduceSeconds(bytes, gpus, cluster) {
  const { inNode, nodes } = nodesOf(gpus, cluster);
  return ringSeconds(bytes, inNode, cluster.inside) + ringSeconds(bytes, nodes, cluster.between);
}

/**
 * A gathering of `bytes` of each GPU: between the nodes first, then what came within them.
 * @param {number} bytes
 * @param {number} gpus
 * @param {Cluster} cluster
 */
export function allGatherSeconds(bytes, gpus, cluster) {
  const { inNode, nodes } = nodesOf(gpus, cluster);
  const { inside, between } = cluster;
  const among = (nodes - 1) * ((inNode * bytes) / between.bandwidth + between.latency);
  return among + (inNode - 1) * ((nodes * bytes) / inside.bandwidth + inside.latency);
}

/**
 * Consecutive tensors in one message, until it is full. Gives the messages' bytes.
 * @param {readonly number[]} tensors
 */
export function messagesOf(tensors) {
  /** @type {number[]} */
  const messages = [];
  for (const bytes of tensors) {
    const last = messages.at(-1);
    if (last !== undefined && last + bytes <= BUCKET_BYTES) messages[messages.length - 1] = last + bytes;
    else messages.push(bytes);
  }
  return messages;
}

/**
 * Images of the largest share of a batch. Throws RangeError where a GPU has none.
 * @param {number} batch
 * @param {number} gpus
 */
export function shareOf(batch, gpus) {
  if (batch < gpus) throw new RangeError(`expected an image for each of ${gpus} GPUs, got a batch of ${batch}`);
  return Math.ceil(batch / gpus);
}

/**
 * A step of a stage on a batch that so many GPUs share.
 * @param {Work} work
 * @param {{ batch: number, gpus: number, gpu: Gpu, cluster: Cluster }} where
 * @returns {StepTime}
 */
export function stepTime({ operations, gradients, channels }, { batch, gpus, gpu, cluster }) {
  const share = shareOf(batch, gpus);
  const passes = UPDATE_PASSES + (gpus > 1 ? PACKING_PASSES : 0);
  const onDevice = (share * operations) / gpu.operations + (passes * total(gradients)) / gpu.memory;
  const compute = Math.max(gpu.host * gradients.length, onDevice);
  const isSynchronised = gpus > 1 && share < FEW_IMAGES;
  // A count, means and squares forward; two sums a channel backward.
  const gathered = isSynchronised ? channels.flatMap((count) => [1 + 2 * count, 2 * count]) : [];
  const statistics = total(gathered.map((count) => allGatherSeconds(STATISTIC_BYTES * count, gpus, cluster)));
  const sum = total(messagesOf(gradients).map((bytes) => allReduceSeconds(bytes, gpus, cluster)));
  const before = compute + statistics;
  return { compute, statistics, sum, alone: before + sum, overlapped: Math.max(before, sum) };
}

/**
 * The part of N GPUs that does what one GPU would: t1 / (N tN) of the same batch.
 * @param {number} one seconds of one GPU
 * @param {number} several seconds of `gpus` GPUs
 * @param {number} gpus
 */
export const efficiency = (one, several, gpus) => one / (gpus * several);

/**
 * Units for stages, at least one and at most `most` each: one after another goes to the stage that has the most work a unit. What is more
 * than all may take is left over.
 * @param {number} units
 * @param {readonly number[]} work
 * @param {number} most
 */
export function divide(units, work, most) {
  if (units < work.length) throw new RangeError(`expected at least ${work.length} units, got ${units}`);
  const parts = work.map(() => 1);
  for (let left = Math.min(units, most * work.length) - work.length; left > 0; left--) {
    const loads = work.map((one, i) => (parts[i] < most ? one / parts[i] : -1));
    parts[loads.indexOf(Math.max(...loads))]++;
  }
  return parts;
}

/**
 * A stage of a pipeline: its work, and the bytes an image that it sends to the next one; the last sends none.
 * @typedef {Work & { activations: number }} PipelineStage
 *
 * Seconds from one batch to the next, those of the slowest stage, without and with overlap; GPUs of each stage; which stage is the
 * slowest without overlap; images a second of which are `batch / alone`.
 * @typedef {{ alone: number, overlapped: number, gpus: number[], slowest: number }} PipelineTime
 */

/**
 * All stages at once, each on GPUs of its own, which share its batch; stage i sends activations on to stage i + 1 and is a batch ahead
 * of it. Whole nodes for each stage where there are several nodes.
 * @param {readonly PipelineStage[]} stages
 * @param {{ batch: number, gpus: number, gpu: Gpu, cluster: Cluster }} where
 * @returns {PipelineTime}
 */
export function pipelineTime(stages, { batch, gpus, gpu, cluster }) {
  const { nodes } = nodesOf(gpus, cluster);
  const unit = nodes > 1 ? cluster.perNode : 1;
  const work = stages.map(({ operations }) => operations);
  const sizes = divide(gpus / unit, work, Math.floor(batch / unit)).map((units) => units * unit);
  // The GPUs of a node share its cards.
  const bandwidth = nodes === 1 ? cluster.inside.bandwidth : cluster.between.bandwidth / cluster.perNode;
  const { latency } = nodes === 1 ? cluster.inside : cluster.between;
  /** @param {number} i from this stage to the next @param {number} size of the group that sends, or receives */
  const passing = (i, size) => {
    const bytes = i < 0 || i + 1 === stages.length ? 0 : stages[i].activations * batch;
    return bytes === 0 ? 0 : bytes / (size * bandwidth) + latency;
  };
  const times = stages.map((stage, i) => {
    const step = stepTime(stage, { batch, gpus: sizes[i], gpu, cluster });
    const [receiving, sending] = [passing(i - 1, sizes[i]), passing(i, sizes[i])];
    return {
      alone: step.alone + receiving + sending,
      overlapped: Math.max(step.compute + step.statistics, step.sum + sending, receiving),
    };
  });
  const alone = times.map((time) => time.alone);
  return {
    alone: Math.max(...alone),
    overlapped: Math.max(...times.map((time) => time.overlapped)),
    gpus: sizes,
    slowest: alone.indexOf(Math.max(...alone)),
  };
}

/**
 * Latency and bandwidth of a link, of the smallest and the largest of some measured all-reduces.
 * @param {readonly { bytes: number, seconds: number }[]} measured rising bytes
 * @param {number} ranks
 * @returns {Link}
 */
export function linkOf(measured, ranks) {
  const [first, last] = [measured[0], measured[measured.length - 1]];
  const bandwidth = (sentBytes(last.bytes, ranks) - sentBytes(first.bytes, ranks)) / (last.seconds - first.seconds);
  const latency = (first.seconds - sentBytes(first.bytes, ranks) / bandwidth) / (2 * (ranks - 1));
  return { bandwidth, latency };
}

/**
 * A step of processes of one machine, of one thread each: where they are more than the processors they take turns.
 * @param {{ computeSeconds: number, gradients: readonly number[], processes: number, processors: number, link: Link }} of
 *   `computeSeconds`: of the share of one process, alone on the machine
 */
export function localStepSeconds({ computeSeconds, gradients, processes, processors, link }) {
  const turns = Math.max(1, processes / processors);
  const sum = total(messagesOf(gradients).map((bytes) => ringSeconds(bytes, processes, link)));
  return turns * computeSeconds + sum;
}
