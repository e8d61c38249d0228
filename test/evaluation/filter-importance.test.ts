import { expect, it } from 'vitest';
import { DeviceImages } from '../../lib/data/index.js';
import { filterImportance } from '../../lib/evaluation/index.js';
import { Flatten, Linear, Sequential } from '../../lib/nn/index.js';
import { memoryStats, scope, type Tensor, tensor } from '../../lib/tensor/index.js';

/** Each image has 2 x 2 positions and three channels, which are the filters. */
const images = (): DeviceImages =>
  new DeviceImages(
    {
      images: Uint8Array.from(
        [
          [1, 2, 3, 4, 5, 5, 5, 5, 0, 0, 0, 0],
          [2, 2, 0, 1, 1, 0, 3, 1, 4, 4, 4, 4],
          [9, 1, 1, 1, 2, 2, 2, 0, 1, 3, 0, 7],
        ].flat(),
      ),
      labels: Uint8Array.of(1, 0, 1),
      count: 3,
      channels: 3,
      height: 2,
      width: 2,
    },
    'cpu',
  );

const scaled = (pixels: Tensor): Tensor => pixels.to({ dtype: 'float32' }).mul(0.1);

/** Two classes; the weight of class 1 is the position's own, that of class 0 is 0. */
const weights = [0.5, -1, 0.25, 1, 0, 0, 0, 0, -0.5, 0.1, 2, 1];

it('is the mean over images of |mean over positions of z dL/dz|', async () => {
  const linear = new Linear({ inFeatures: 12, outFeatures: 2 });
  scope(() => {
    linear.weight.detach().copy_(tensor([...Array(12).fill(0), ...weights], { shape: [2, 12] }));
    linear.bias!.detach().fill_(0);
  });
  const head = new Sequential([
    ['flatten', new Flatten()],
    ['linear', linear],
  ]).eval();
  const source = images();
  const rows = await pixelsOf(source);
  // With logits (0, s), dL/dz = w (sigmoid(s) - label): so z dL/dz = w z (sigmoid(s) - label).
  const expected = [0, 0, 0];
  rows.forEach(({ values, label }) => {
    const s = values.reduce((sum, z, i) => sum + z * weights[i]!, 0);
    const slope = 1 / (1 + Math.exp(-s)) - label;
    for (let channel = 0; channel < 3; channel++) {
      const positions = [0, 1, 2, 3].map((p) => 4 * channel + p);
      const mean = positions.reduce((sum, i) => sum + values[i]! * weights[i]! * slope, 0) / 4;
      expected[channel]! += Math.abs(mean) / 3;
    }
  });
  const before = memoryStats();
  for (const batchSize of [1, 2, 3]) {
    const importance = await filterImportance(source, { features: scaled, head }, { batchSize });
    expect(importance.length).toBe(3);
    for (const [i, value] of importance.entries()) expect(value).toBeCloseTo(expected[i]!, 7);
    // The weight of all its positions is 0: nothing changes without it.
    expect(importance[1]).toBe(0);
  }
  expect(memoryStats()).toEqual(before);
  expect(linear.weight.grad).toBeNull();
  head.dispose();
  source.dispose();
});

async function pixelsOf(source: DeviceImages): Promise<{ values: number[]; label: number }[]> {
  const rows: { values: number[]; label: number }[] = [];
  for await (const batch of source.batches(1)) {
    const { images: pixels, labels } = batch.tensors();
    rows.push({ values: Array.from(pixels.toFloat32Array(), (v) => v * 0.1), label: labels.item() });
    pixels.dispose();
    labels.dispose();
  }
  return rows;
}
