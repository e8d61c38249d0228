// A run's plan, for people.
import { byteSize } from '../format.js';
import type { ImageRate, LayerTime, RunPlan } from '../training/index.js';
import { formatTable } from './table.js';

/** "1:02:03", or "2:03" below an hour. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  const two = (n: number) => String(n).padStart(2, '0');
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

const grouped = (value: number): string => value.toLocaleString('en-US');

/** "7.61 G", of thousands. */
function short(value: number): string {
  const [unit, size] = (
    [
      ['E', 1e18],
      ['P', 1e15],
      ['T', 1e12],
      ['G', 1e9],
      ['M', 1e6],
      ['k', 1e3],
    ] as const
  ).find(([, one]) => value >= one) ?? ['', 1];
  return `${(value / size).toPrecision(3)}${unit === '' ? '' : ` ${unit}`}`;
}

/** What is said when a run starts, in a line or two. */
export function planSummary(plan: RunPlan): string[] {
  const { parameters, multiplyAdds, largest, steps, operations, checkpointBytes, featureBytesOnDisk } = plan;
  const kept = featureBytesOnDisk === 0 ? '' : `, features up to ${byteSize(featureBytesOnDisk)}`;
  return [
    `${grouped(parameters)} parameters with all heads, ${short(multiplyAdds)} multiply-adds an image in the finished network`,
    ...(largest === null
      ? []
      : [
          `${grouped(steps)} steps of about ${short(operations)}FLOP in all, up to ${byteSize(largest.bytes)} of memory at layer ` +
            `${largest.layer + 1}; on disk: checkpoints up to ${byteSize(checkpointBytes)}${kept}`,
        ]),
  ];
}

/** A row a layer, layers from 1; the times where they were measured. */
export function planTable({ layers }: RunPlan, times: readonly LayerTime[] | null): string {
  const timeOf = new Map(times?.map((time) => [time.layer, time]));
  return formatTable(
    [
      'layer',
      'output',
      'parameters',
      'head',
      'multiply-adds',
      'head',
      'frozen',
      'step',
      'peak',
      'features',
      'checkpoint',
      ...(times === null ? [] : ['step s', 'images/s', 'time']),
    ],
    layers.map((layer) => {
      const time = timeOf.get(layer.layer);
      return [
        String(layer.layer + 1),
        layer.outputShape.join(' x '),
        grouped(layer.parameters.block),
        grouped(layer.parameters.head),
        short(layer.multiplyAdds.block),
        short(layer.multiplyAdds.head),
        short(layer.multiplyAdds.frozen),
        layer.memory === null ? '-' : byteSize(layer.memory.step),
        layer.memory === null ? '-' : byteSize(layer.memory.peak),
        layer.features === null ? '-' : byteSize(layer.features.bytes),
        byteSize(layer.checkpoint.finished),
        ...(times === null
          ? []
          : time === undefined
            ? ['-', '-', '-']
            : [time.stepSeconds.toFixed(3), rate(time.imagesPerSecond), duration(time.seconds)]),
      ];
    }),
  );
}

const rate = (imagesPerSecond: number | null): string =>
  imagesPerSecond === null
    ? '-'
    : imagesPerSecond < 10
      ? imagesPerSecond.toPrecision(2)
      : grouped(Math.round(imagesPerSecond));

/** What the table's columns mean, and the totals. */
export function planNotes(plan: RunPlan, times: readonly LayerTime[] | null, imageRate: ImageRate | null): string[] {
  return [
    ...planSummary(plan),
    'step, peak: memory of tensors in a training step, and with the evaluation of the test images.' +
      (plan.imageBytes > 0 ? ` The images take ${byteSize(plan.imageBytes)} more.` : ''),
    ...(plan.layers.some(({ isTrained, memory }) => isTrained && memory === null)
      ? ['The layers train at once: their memory, step and time are in the row of the last.']
      : []),
    ...(times === null || times.length === 0 ? [] : timeNotes(plan, times, imageRate)),
  ];
}

function timeNotes({ layers }: RunPlan, times: readonly LayerTime[], imageRate: ImageRate | null): string[] {
  const fewest = Math.min(...times.map(({ imagesTimed }) => imagesTimed));
  const seconds = times.reduce((sum, time) => sum + time.seconds, 0);
  const total = `about ${duration(seconds)} in all: an estimate from ${fewest} random images or more at a time`;
  const meaning = 'images/s: training images a second that the layer takes, where reading them costs nothing.';
  if (imageRate === null) return [meaning, `${total}.`];
  const { imagesPerSecond, imagesTimed, arePacked, threads } = imageRate;
  const decoder = threads === null ? 'sharp' : `${threads} ${threads === 1 ? 'thread' : 'threads'}`;
  const reading = times.reduce((sum, time) => sum + time.readingSeconds, 0);
  // What makes reading less, where it is not done already.
  const ways = [
    ...(arePacked ? [] : ['from images that layerwise data prepare has made smaller']),
    ...(layers.some(({ multiplyAdds, features }) => multiplyAdds.frozen > 0 && features === null)
      ? ['where features of frozen layers are kept (--views)']
      : []),
  ];
  const hungry = times.filter((time) => (time.imagesPerSecond ?? 0) > imagesPerSecond).map(({ layer }) => layer + 1);
  return [
    meaning,
    `The ${arePacked ? 'shards' : 'files'} give ${rate(imagesPerSecond)} images a second, read by ${decoder} while nothing else computes` +
      ` (${grouped(imagesTimed)} were read)` +
      (hungry.length === 0 ? '.' : `; layers that take more: ${hungry.join(', ')}.`),
    `${total}, and of reading; ${Math.round((100 * reading) / seconds)} % of it is for reading.` +
      (reading > MUCH * seconds && ways.length > 0 ? ` It is less ${ways.join(', and ')}.` : ''),
  ];
}

/** Of the time, that reading takes. */
const MUCH = 0.25;
