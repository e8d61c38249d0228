// The gradient of a convolution's weights, which is computed in parts: by images, or by output channels.

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type DType,
  empty,
  getThreads,
  manualSeed,
  measurePeak,
  randn,
  scope,
  setThreads,
  type Tensor,
} from '../../lib/tensor/index.js';
import { convolutionSums } from '../support/fixtures.js';
import { onOneCore } from '../support/one-core.js';

const CASES = [
  { name: 'many positions', batch: 9, inChannels: 3, outChannels: 8, size: 32 },
  { name: 'many positions, moved by 2', batch: 9, inChannels: 3, outChannels: 8, size: 33, stride: 2 },
  { name: 'few positions, many channels', batch: 5, inChannels: 6, outChannels: 70, size: 5 },
  { name: 'few positions, few channels', batch: 5, inChannels: 6, outChannels: 7, size: 5 },
  { name: 'one large image', batch: 1, inChannels: 3, outChannels: 64, size: 40 },
  { name: 'one large image, few channels', batch: 1, inChannels: 3, outChannels: 8, size: 40, isWhole: true },
  { name: 'fewer images than parts', batch: 3, inChannels: 3, outChannels: 8, size: 48 },
  { name: 'images of two rows', batch: 130, inChannels: 4, outChannels: 40, size: 2 },
] as const;
type Case = (typeof CASES)[number];

/** The gradients of input, weight and bias of a convolution; of the same numbers in every dtype. */
function gradients(of: Case, dtype: DType, memoryFormat: 'channelsLast' | 'contiguous'): Tensor[] {
  const { batch, inChannels, outChannels, size } = of;
  const geometry = { padding: 1, stride: 'stride' in of ? of.stride : 1 };
  manualSeed(3);
  // Numbers that bfloat16 holds.
  const draw = (shape: number[]) => randn(shape).to({ dtype: 'bfloat16' }).to({ dtype });
  const leaves = [
    draw([batch, inChannels, size, size]).contiguous({ memoryFormat }),
    draw([outChannels, inChannels, 3, 3]).contiguous({ memoryFormat }),
    draw([outChannels]),
  ] as const;
  for (const leaf of leaves) leaf.requiresGrad = true;
  const output = leaves[0].conv2d(leaves[1], leaves[2], geometry);
  output.backward({ gradient: draw([...output.shape]) });
  return leaves.map((leaf) => leaf.grad!);
}

const norm = (tensor: Tensor): number => Math.sqrt(tensor.mul(tensor).sum().item());

let threads: number;
beforeEach(() => {
  threads = getThreads();
});
afterEach(() => setThreads(threads));

describe.each(CASES)('$name', (of) => {
  // bfloat16 keeps 8 bits; a part's gradient is rounded, and the sum again.
  it.each([
    ['float32', 'channelsLast', 1e-5],
    ['float32', 'contiguous', 1e-5],
    ['bfloat16', 'channelsLast', { float32: 2 ** -8, rounded: 2 ** -7, bfloat16: 2 ** -4 }[convolutionSums()]],
  ] as const)('in %s, %s, it is that of float64', (dtype, memoryFormat, tolerance) => {
    setThreads(2);
    scope(() => {
      const expected = gradients(of, 'float64', 'contiguous');
      const got = gradients(of, dtype, memoryFormat);
      for (const [i, tensor] of got.entries()) {
        expect(tensor.shape).toEqual(expected[i]!.shape);
        expect(tensor.dtype).toBe(dtype);
        const difference = norm(tensor.to({ dtype: 'float64' }).sub(expected[i]!)) / norm(expected[i]!);
        expect(difference).toBeLessThan(tolerance);
      }
    });
  });

  // What is not divided is LibTorch's own, whose sums may depend on the threads: MKL's do, on Intel's processors.
  it.skipIf('isWhole' in of)('has the same bits on one thread and on two', () => {
    const digits = [1, 2].map((count) => {
      setThreads(count);
      return scope(() => gradients(of, 'float32', 'channelsLast')[1]!.toArray());
    });
    expect(digits[1]).toEqual(digits[0]);
  });
});

it('leaves memory accounted for, whichever thread took it and freed it', () => {
  setThreads(2);
  const of = { name: 'much weight', batch: 4, inChannels: 512, outChannels: 60, size: 2 } as unknown as Case;
  const bytes = 2 ** 26;
  const { peakBytes } = measurePeak(() => {
    for (let i = 0; i < 20; i++) scope(() => void gradients(of, 'float32', 'channelsLast'));
    // What came before is gone, so this alone makes the peak.
    scope(() => void empty([bytes], { dtype: 'uint8' }));
  });
  expect(peakBytes).toBe(bytes);
});

/** CPU seconds of a short training on so many threads, all on one core: threads that wait for each other only burn it. */
async function secondsOnOneCore(threads: number, out: string): Promise<number> {
  const library = new URL('../../dist/index.js', import.meta.url).href;
  const program = `
    const { overrideRecipe, presetRecipe, train } = await import(${JSON.stringify(library)});
    const recipe = overrideRecipe(presetRecipe('vgg11-layerwise', { dataset: 'shapes', onCuda: false }), {
      model: { width: 16 },
      dataset: { trainLimit: 256, testLimit: 16 },
      training: { epochs: 1, milestones: [], batchSize: 128 },
      threads: ${threads},
    });
    const before = process.cpuUsage();
    await train({ recipe, out: ${JSON.stringify(out)} });
    const { user, system } = process.cpuUsage(before);
    console.log((user + system) / 1e6);`;
  const [command, ...rest] = [...onOneCore!, process.execPath, '--input-type=module', '-e', program];
  const { stdout } = await promisify(execFile)(command!, rest, {
    env: { ...process.env, OMP_NUM_THREADS: '2' },
  });
  return Number(stdout);
}

it.runIf(onOneCore !== null)('wastes no time on waiting where two threads have one core', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'layerwise-core-'));
  try {
    const alone = await secondsOnOneCore(1, join(folder, 'one'));
    expect(await secondsOnOneCore(2, join(folder, 'two'))).toBeLessThan(2 * alone);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
