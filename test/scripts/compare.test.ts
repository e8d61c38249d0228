import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { differences } from '../../scripts/compare/differences.mjs';

const folder = mkdtempSync(join(tmpdir(), 'layerwise-compare-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Run {
  /** The bytes of each tensor. */
  readonly tensors: Record<string, number[]>;
  readonly result: unknown;
  readonly epochs: readonly unknown[];
}

const usual: Run = {
  tensors: { 'a.weight': [1, 2], 'b.weight': [3] },
  result: { layers: [{ testTop1: 50, seconds: 2 }] },
  epochs: [{ trainLoss: 0.5, seconds: 1, imagesPerSecond: 9 }, { trainLoss: 0.25 }],
};

function write(name: string, { tensors, result, epochs }: Run): string {
  const run = join(folder, name);
  mkdirSync(run, { recursive: true });
  let end = 0;
  const places = Object.entries(tensors).map(([tensor, bytes]) => {
    const start = end;
    end += bytes.length;
    return [tensor, { dtype: 'U8', shape: [bytes.length], data_offsets: [start, end] }];
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(places)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const bytes = Buffer.from(Object.values(tensors).flat());
  writeFileSync(join(run, 'model.safetensors'), Buffer.concat([length, header, bytes]));
  writeFileSync(join(run, 'result.json'), JSON.stringify(result));
  writeFileSync(join(run, 'metrics.jsonl'), epochs.map((epoch) => `${JSON.stringify(epoch)}\n`).join(''));
  return run;
}

const before = write('before', usual);
const changes = (change: Partial<Run>): string[] => differences(before, write('after', { ...usual, ...change }));

it('runs that differ in their times alone are the same, in whatever order tensors lie', () => {
  const tensors = { 'b.weight': [3], 'a.weight': [1, 2] };
  expect(changes({ tensors, result: { layers: [{ testTop1: 50, seconds: 3 }] } })).toEqual([]);
});

it('names each tensor that differs in a byte, is gone or is new', () => {
  expect(changes({ tensors: { 'a.weight': [1, 3], 'c.weight': [3] } })).toEqual([
    'model.safetensors: a.weight differs',
    'model.safetensors: b.weight is gone',
    'model.safetensors: c.weight is new',
  ]);
});

it('names each figure that differs, with both', () => {
  const epochs = [usual.epochs[0], { trainLoss: 0.2500001, trainTop1: 1 }];
  expect(changes({ result: { layers: [{ testTop1: 51 }] }, epochs })).toEqual([
    'result.json layers 0 testTop1: 50 before, 51 now',
    'metrics.jsonl 1 trainLoss: 0.25 before, 0.2500001 now',
    'metrics.jsonl 1 trainTop1: nothing before, 1 now',
  ]);
});

it('takes figures that an earlier commit writes under another name for those of today', () => {
  const earlier = write('earlier', { ...usual, epochs: [{ lr: 0.05 }, { lr: 0.01 }] });
  const compared = (epochs: Run['epochs']): string[] => differences(earlier, write('today', { ...usual, epochs }));
  expect(compared([{ learningRate: 0.05 }, { learningRate: 0.01 }])).toEqual([]);
  expect(compared([{ learningRate: 0.05 }, { learningRate: 0.02 }])).toEqual([
    'metrics.jsonl 1 learningRate: 0.01 before, 0.02 now',
  ]);
});
