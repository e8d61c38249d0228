// Whitened patches: what whitening means, by hand in float64.
import { describe, expect, it } from 'vitest';
import { ModuleError, Scale, Whitening } from '../../lib/nn/index.js';
import { manualSeed, noGrad, ones, randn, scope, type Tensor } from '../../lib/tensor/index.js';

async function* batchesOf(...batches: readonly Tensor[]): AsyncGenerator<Tensor> {
  yield* batches;
}

/** Images whose neighbouring pixels and channels go together, as those of photographs do. */
function smoothImages(count: number, channels = 3): Tensor {
  return scope(() => {
    const noise = randn([count, channels, 9, 10], { dtype: 'float64' });
    const shared = noise.mean({ dims: [1], keepDim: true });
    const mixed = noise.add(shared, { alpha: 2 });
    const smooth = mixed.narrow(2, 0, 8).add(mixed.narrow(2, 1, 8));
    return smooth
      .narrow(3, 0, 9)
      .add(smooth.narrow(3, 1, 9))
      .to({ dtype: 'float32' });
  });
}

/** The mean product of each two outputs over all positions of all images, [outputs, outputs]. */
function secondMoments(output: Tensor): number[][] {
  const [n, outputs, height, width] = output.shape as [number, number, number, number];
  const values = output.to({ dtype: 'float64' }).toTypedArray() as Float64Array;
  const area = height * width;
  return Array.from({ length: outputs }, (_, a) =>
    Array.from({ length: outputs }, (_, b) => {
      let sum = 0;
      for (let i = 0; i < n; i++) {
        for (let p = 0; p < area; p++)
          sum += values[(i * outputs + a) * area + p]! * values[(i * outputs + b) * area + p]!;
      }
      return sum / (n * area);
    }),
  );
}

describe.each([
  { channels: 3, size: 2 },
  { channels: 1, size: 3 },
  { channels: 2, size: 1 },
])('$channels channels, patches of $size', ({ channels, size }) => {
  const half = channels * size ** 2;

  it('makes the values of a patch uncorrelated, of variance 1, and gives their negatives too', async () => {
    manualSeed(1);
    const module = new Whitening({ channels, size, eps: 0 });
    const images = smoothImages(20, channels);
    const before = scope(() => secondMoments(noGrad(() => module.forward(images))));
    await module.fit(batchesOf(images));
    scope(() => {
      const output = noGrad(() => module.forward(images));
      expect(output.shape).toEqual([20, 2 * half, 9 - size, 10 - size]);
      const after = secondMoments(output);
      for (let a = 0; a < 2 * half; a++) {
        for (let b = 0; b < 2 * half; b++) {
          const expected = a % half !== b % half ? 0 : a === b ? 1 : -1;
          expect(after[a]![b], `${a}, ${b}`).toBeCloseTo(expected, 4);
        }
      }
      const offDiagonal = before.flatMap((row, a) => row.filter((_, b) => a % half !== b % half));
      if (half > 1) expect(Math.max(...offDiagonal.map(Math.abs))).toBeGreaterThan(0.01);
    });
    images.dispose();
    module.dispose();
  });

  it('is the same for images in several batches', async () => {
    manualSeed(2);
    const [whole, parts] = [new Whitening({ channels, size }), new Whitening({ channels, size })];
    const images = smoothImages(10, channels);
    await whole.fit(batchesOf(images));
    const halves = scope(() => [images.narrow(0, 0, 3).clone(), images.narrow(0, 3, 7).clone()]);
    await parts.fit(batchesOf(...halves));
    scope(() => expect(whole.weight.sub(parts.weight).abs().amax().item()).toBeLessThan(1e-6));
    for (const disposable of [images, ...halves, whole, parts]) disposable.dispose();
  });
});

it('is the same for images of which only one fits at once', async () => {
  // 64 values a patch: 300 x 300 positions are more than are held at once, of two images.
  const module = new Whitening({ channels: 1, size: 8 });
  const again = new Whitening({ channels: 1, size: 8 });
  manualSeed(3);
  using images = randn([2, 1, 307, 307]);
  await module.fit(batchesOf(images));
  const halves = scope(() => [0, 1].map((i) => images.narrow(0, i, 1).clone()));
  await again.fit(batchesOf(...halves));
  expect([...module.weight.toFloat32Array()]).toEqual([...again.weight.toFloat32Array()]);
  for (const disposable of [...halves, module, again]) disposable.dispose();
});

it.each([
  [[2, 4, 8, 8], '[2, 4, 8, 8]'],
  [[2, 3, 1, 8], '[2, 3, 1, 8]'],
  [[2, 192], '[2, 192]'],
])('refuses to be fitted to %j', async (shape, got) => {
  const module = new Whitening({ channels: 3, size: 2 });
  using images = ones(shape);
  await expect(module.fit(batchesOf(images))).rejects.toThrow(
    new ModuleError(`Whitening: expected images [n, 3, height, width] of at least 2 x 2, got ${got}`),
  );
  module.dispose();
});

it('adds eps to the second moments: a constant image does not blow up', async () => {
  const module = new Whitening({ channels: 1, size: 1, eps: 0.25 });
  using images = scope(() => ones([2, 1, 4, 4]).mul(Math.sqrt(0.75)));
  await module.fit(batchesOf(images));
  // 1 / sqrt(0.75 + 0.25)
  expect([...module.weight.toFloat32Array()]).toEqual([1, -1]);
  const none = new Whitening({ channels: 2, size: 1, eps: 0 });
  using alike = ones([1, 2, 2, 2]);
  await expect(none.fit(batchesOf(alike))).rejects.toThrow(/cholesky|positive/);
  module.dispose();
  none.dispose();
});

it('does not train, and keeps what it had where there are no images', async () => {
  const module = new Whitening({ channels: 3, size: 2 });
  expect([module.parameterCount(), [...module.stateDict().keys()]]).toEqual([0, ['weight']]);
  const before = [...module.weight.toFloat32Array()];
  await module.fit(batchesOf());
  expect([...module.weight.toFloat32Array()]).toEqual(before);
  module.dispose();
});

it.each([
  [{ channels: 0, size: 2 }, 'Whitening: expected an integer of at least 1 for channels, got 0'],
  [{ channels: 3, size: 1.5 }, 'Whitening: expected an integer of at least 1 for size, got 1.5'],
  [{ channels: 3, size: 2, eps: -1 }, 'Whitening: expected a number of at least 0 for eps, got -1'],
])('refuses %o', (options, message) => {
  expect(() => new Whitening(options)).toThrow(new ModuleError(message));
});

it('Scale multiplies by its factor', () => {
  scope(() => expect([...new Scale({ factor: 0.5 }).forward(ones([2])).toFloat32Array()]).toEqual([0.5, 0.5]));
  for (const factor of [Number.NaN, Number.POSITIVE_INFINITY, '2']) {
    expect(() => new Scale({ factor: factor as number })).toThrow(
      `Scale: expected a finite number for factor, got ${factor}`,
    );
  }
});
