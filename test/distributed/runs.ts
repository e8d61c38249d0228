// Runs of several processes, and what they leave.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect } from 'vitest';
import { readSafetensors } from '../../lib/nn/index.js';
import { scope, type Tensor } from '../../lib/tensor/index.js';
import { type Ended, type RunningRanks, startRanks } from './ranks.js';

export const SMALL = {
  dataset: { trainLimit: 160, testLimit: 50 },
  training: { epochs: 2, batchSize: 16, milestones: [], learningRate: 0.01, syncBatchNorm: 'on' },
  evaluation: { batchSize: 20 },
  ...{ device: 'cpu', precision: 'fp32', threads: 1 },
};
export const SIMCNN = { ...SMALL, model: { width: 8, auxWidth: 8, layers: 1, downsampleAt: [] } };
export const TWO_LAYERS = { ...SMALL, model: { width: 8, auxWidth: 8, layers: 2, downsampleAt: [1] } };

export interface Asked {
  readonly preset?: string;
  readonly changes?: object;
  readonly out?: string;
  readonly resume?: string;
  readonly abortAfter?: number;
  readonly abortRank?: number;
  readonly orResume?: boolean;
  readonly changesOf?: Readonly<Record<number, object>>;
  /** The file of a module in programs/. */
  readonly network?: string;
  /** Of the group, such as `parallel`. */
  readonly group?: object;
}

let store = 0;

/** Processes that make runs, one after another. */
export function start(folder: string, world: number, asked: readonly Asked[], timeoutMs = 60_000): RunningRanks {
  const file = join(folder, `store-${++store}`);
  const options = Array.from({ length: world }, (_, rank) => ({ rank, worldSize: world, timeoutMs, store: { file } }));
  const TRAIN = JSON.stringify(asked.map((one) => ({ preset: 'simcnn-k3', changes: SIMCNN, ...one })));
  return startRanks('train.mjs', options, { TRAIN });
}

export interface Told {
  readonly losses: readonly number[];
  readonly notes: readonly string[];
  readonly failed?: { code: string; message: string; missing?: readonly number[] };
  readonly done?: readonly { testLoss: number; testTop1: number; ensembleTop1: number }[];
}

/** What a process told of its runs. */
export function toldBy({ code, lines, stderr }: Ended): Told[] {
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const runs: Record<string, unknown>[] = [];
  for (const line of lines as Record<string, unknown>[]) {
    if ('run' in line) runs.push({ losses: [], notes: [] });
    else if ('loss' in line) (runs.at(-1)!.losses as unknown[]).push(line.loss);
    else Object.assign(runs.at(-1)!, line);
  }
  return runs as unknown as Told[];
}

/** By run, what each process told. */
export async function runAll(folder: string, world: number, asked: readonly Asked[]): Promise<Told[][]> {
  const byRank = (await start(folder, world, asked).ended).map(toldBy);
  return asked.map((_, i) => byRank.map((runs) => runs[i]!));
}

export const run = async (folder: string, world: number, asked: Asked): Promise<Told[]> =>
  (await runAll(folder, world, [asked]))[0]!;

/** The largest difference of two lists. */
export function distance(a: readonly number[], b: readonly number[]): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}

const FILES = ['model.safetensors', 'auxiliary-heads.safetensors'];
const filesOf = (directory: string): string[] =>
  FILES.map((file) => join(directory, file)).filter((file) => existsSync(file));

const listed = (x: Tensor): number[] => scope(() => [...(x.to({ dtype: 'float64' }).toTypedArray() as Float64Array)]);

/** The weights and statistics that a run has left, by file and name. */
export async function valuesIn(directory: string): Promise<Map<string, number[]>> {
  const values = new Map<string, number[]>();
  for (const file of filesOf(directory)) {
    const { tensors } = await readSafetensors(file);
    for (const [name, tensor] of tensors) {
      values.set(`${basename(file)} ${name}`, listed(tensor));
      tensor.dispose();
    }
  }
  return values;
}

/** The largest difference of the weights and statistics of two runs. */
export async function weightDistance(a: string, b: string): Promise<number> {
  const [ours, theirs] = [await valuesIn(a), await valuesIn(b)];
  expect([...ours.keys()]).toEqual([...theirs.keys()]);
  return Math.max(...[...ours].map(([name, values]) => distance(values, theirs.get(name)!)));
}

export const bitsOf = (directory: string): string[] =>
  filesOf(directory).map((file) => createHash('sha256').update(readFileSync(file)).digest('hex'));
