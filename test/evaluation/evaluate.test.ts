import { expect, it } from 'vitest';
import { DeviceImages } from '../../lib/data/batches.js';
import { predictAll, scoreLogits, scoreRanking } from '../../lib/evaluation/index.js';
import { memoryStats, scope, type Tensor, tensor } from '../../lib/tensor/index.js';

/** Image i is one pixel of value i in each channel. */
function numbered(labels: readonly number[]): DeviceImages {
  return new DeviceImages(
    {
      images: Uint8Array.from(labels.flatMap((_, i) => [i, i, i])),
      labels: Uint8Array.from(labels),
      count: labels.length,
      channels: 3,
      height: 1,
      width: 1,
    },
    'cpu',
  );
}

it('scores logits by mean cross entropy, top-1 and top-5', () => {
  const rows = [
    [2, 0, -1, 1, 3, 0.5],
    [0.25, 4, -2, 1, 1.5, 0],
    [1, 2, 3, 4, 5, -6],
    [0, 0, 1, 0, 0, 0],
  ];
  const labels = [4, 0, 5, 2];
  // -log softmax, written out.
  const loss =
    labels.reduce((sum, label, i) => {
      const partition = rows[i]!.reduce((z, logit) => z + Math.exp(logit), 0);
      return sum - Math.log(Math.exp(rows[i]![label]!) / partition);
    }, 0) / 4;
  const images = numbered(labels);
  scope(() => {
    const logits = tensor(rows.flat(), { shape: [4, 6] });
    const scored = scoreLogits(logits, images);
    expect(scored.loss).toBeCloseTo(loss, 5);
    expect(scored).toMatchObject({ top1: 50, top5: 75 });
    expect(scoreRanking(logits, images)).toEqual({ top1: 50, top5: 75 });
  });
  images.dispose();
});

it('predicts every image in order, whatever the batch size, and lets other work run between batches', async () => {
  const images = numbered([0, 1, 2, 3, 4, 5, 6]);
  const shapes: number[] = [];
  const forward = (batch: Tensor): Tensor => {
    shapes.push(batch.shape[0]!);
    return batch.to({ dtype: 'float32' }).reshape([-1, 3]).mul(2);
  };
  for (const [batchSize, batches] of [
    [3, [3, 3, 1]],
    [7, [7]],
    [500, [7]],
    [1, [1, 1, 1, 1, 1, 1, 1]],
  ] as const) {
    let breaths = 0;
    shapes.length = 0;
    using logits = await predictAll(images, forward, {
      batchSize,
      breathe: async () => {
        breaths++;
      },
    });
    expect(logits.toArray()).toEqual([0, 2, 4, 6, 8, 10, 12].map((v) => [v, v, v]));
    expect(shapes).toEqual(batches);
    expect(breaths).toBe(batches.length);
  }
  images.dispose();
});

it('frees what it had when a batch fails or is stopped', async () => {
  const images = numbered([0, 1, 2, 3]);
  const before = memoryStats();
  const forward = (batch: Tensor): Tensor => batch.to({ dtype: 'float32' }).reshape([-1, 3]);
  let batches = 0;
  await expect(
    predictAll(
      images,
      (batch) => {
        if (++batches === 3) throw new Error('third');
        return forward(batch);
      },
      { batchSize: 1 },
    ),
  ).rejects.toThrow('third');
  await expect(
    predictAll(images, forward, {
      batchSize: 2,
      breathe: async () => {
        throw new Error('stopped');
      },
    }),
  ).rejects.toThrow('stopped');
  expect(memoryStats()).toEqual(before);
  images.dispose();
});

it('gives outputs that may be trained on', async () => {
  const images = numbered([0, 1, 2]);
  using outputs = await predictAll(images, (batch) => batch.flatten({ startDim: 1 }), { batchSize: 2 });
  scope(() => {
    const weight = tensor([1, 1, 1], { shape: [1, 3] });
    weight.requiresGrad = true;
    outputs.linear(weight, null).sum().backward();
    expect(weight.grad!.toArray()).toEqual([[3, 3, 3]]);
    outputs.requiresGrad = true;
    outputs.sum().backward();
    expect(outputs.grad!.shape).toEqual([3, 3]);
  });
  images.dispose();
});
