import type { Tensor } from '../tensor/index.js';

/**
 * For each k, how many of [batch, classes] logits have the label among their k largest; int64 scalars on the device.
 * With fewer classes than k, all do.
 */
export function topKCorrect(logits: Tensor, labels: Tensor, ks: readonly number[]): Tensor[] {
  const classes = logits.shape[1]!;
  const { indices } = logits.topk(Math.min(Math.max(...ks), classes), { dim: 1 });
  const hits = indices.eq(labels.unsqueeze(1));
  return ks.map((k) => hits.narrow(1, 0, Math.min(k, classes)).sum());
}
