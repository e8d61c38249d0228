import { Sequential } from '../nn/index.js';
import type { Tensor } from '../tensor/index.js';
import { ModelError } from './errors.js';
import type { Network } from './network.js';

/**
 * The network with its consecutive layers grouped into so many blocks, each of which has the head of its last layer; the other heads
 * are disposed. Of L layers in K blocks, block i has those from floor(i L / K) on. The names in the state dicts stay those of the
 * layers. It takes over the network. Throws ModelError for more blocks than layers.
 */
export function groupLayers(network: Network, count: number): Network {
  const layers = network.blocks.length;
  if (count > layers) {
    throw new ModelError(`training.blocks: expected at most the ${layers} layers of ${network.name}, got ${count}`);
  }
  if (count === layers) return network;
  const ends = Array.from({ length: count }, (_, i) => Math.floor(((i + 1) * layers) / count));
  const blocks = ends.map((end, i) => {
    const start = ends[i - 1] ?? 0;
    const grouped = network.blocks.slice(start, end).map((block, j) => [String(start + j), block] as const);
    return grouped.length === 1 ? grouped[0]![1] : new Sequential(grouped);
  });
  const heads = ends.map((end) => network.heads[end - 1]!);
  for (const head of network.heads) if (!heads.includes(head)) head.dispose();
  return {
    ...{ name: network.name, classes: network.classes, inputShape: network.inputShape, blocks, heads },
    ungrouped: network,
    notes: [...network.notes, noteOf(ends)],
    auxiliaryNotes: network.auxiliaryNotes,
    stateDict: () => network.stateDict(),
    auxiliaryStateDict: () => {
      const kept = new Set<Tensor>(heads.flatMap((head) => [...head.stateDict().values()]));
      return new Map([...network.auxiliaryStateDict()].filter(([, tensor]) => kept.has(tensor)));
    },
  };
}

function noteOf(ends: readonly number[]): string {
  const ranges = ends.map((end, i) => {
    const first = (ends[i - 1] ?? 0) + 1;
    return first === end ? String(end) : `${first} to ${end}`;
  });
  const [blocks, count] =
    ends.length === 1 ? ['one block', 'counts as one layer'] : [`${ends.length} blocks`, 'count as layers'];
  return `The ${ends.at(-1)} layers are trained as ${blocks} (${ranges.join(', ')}), which ${count} here.`;
}
