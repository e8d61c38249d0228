// A run's plan, for people.
import { byteSize } from '../format.js';
import type { LayerTime, RunPlan } from '../training/index.js';
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
      ['G', 1e9],
      ['M', 1e6],
      ['k', 1e3],
    ] as const
  ).find(([, one]) => value >= one) ?? ['', 1];
  return `${(value / size).toPrecision(3)}${unit === '' ? '' : ` ${unit}`}`;
}

/** What is said when a run starts, in a line or two. */
export function planSummary(plan: RunPlan): string[] {
  const { parameters, multiplyAdds, largest, steps, checkpointBytes, featureBytesOnDisk } = plan;
  const kept = featureBytesOnDisk === 0 ? '' : `, features up to ${byteSize(featureBytesOnDisk)}`;
  return [
    `${grouped(parameters)} parameters with all heads, ${short(multiplyAdds)} multiply-adds an image in the finished network`,
    ...(largest === null
      ? []
      : [
          `${grouped(steps)} steps, up to ${byteSize(largest.bytes)} of memory at layer ${largest.layer + 1}; ` +
            `on disk: checkpoints up to ${byteSize(checkpointBytes)}${kept}`,
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
      ...(times === null ? [] : ['step s', 'time']),
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
            ? ['-', '-']
            : [time.stepSeconds.toFixed(3), duration(time.seconds)]),
      ];
    }),
  );
}

/** What the table's columns mean, and the totals. */
export function planNotes(plan: RunPlan, times: readonly LayerTime[] | null): string[] {
  const fewest = times === null ? 0 : Math.min(...times.map(({ imagesTimed }) => imagesTimed));
  return [
    ...planSummary(plan),
    'step, peak: memory of tensors in a training step, and with the evaluation of the test images.' +
      (plan.imageBytes > 0 ? ` The images take ${byteSize(plan.imageBytes)} more.` : ''),
    ...(times === null || times.length === 0
      ? []
      : [
          `about ${duration(times.reduce((sum, { seconds }) => sum + seconds, 0))} in all: an estimate from ${fewest} random images or more at a time, ` +
            'without reading files',
        ]),
  ];
}
