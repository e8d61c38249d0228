import { Sequential } from '../nn/index.js';
import type { Tensor } from '../tensor/index.js';
import { ModelError } from './errors.js';
import type { Network } from './network.js';

/** So many blocks of about as many layers each, or the number of layers of each block. */
export type Blocks = number | readonly number[];

export const blockCount = (blocks: Blocks): number => (typeof blocks === 'number' ? blocks : blocks.length);

/**
 * The network with its consecutive layers grouped into blocks, each of which has the head of its last layer; the other heads
 * are disposed. Of L layers in K blocks, block i has those from floor(i L / K) on. The names in the state dicts stay those of the
 * layers. It takes over the network. Throws ModelError for more blocks than layers, and for a list that has not all layers.
 */
export function groupLayers(network: Network, grouping: Blocks): Network {
  const layers = network.blocks.length;
  const ends = endsOf(network, grouping);
  if (ends.length === layers) return network;
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
    fitToImages: async (batches) => network.fitToImages?.(batches),
    notes: [...network.notes, noteOf(ends)],
    auxiliaryNotes: network.auxiliaryNotes,
    stateDict: () => network.stateDict(),
    auxiliaryStateDict: () => {
      const kept = new Set<Tensor>(heads.flatMap((head) => [...head.stateDict().values()]));
      return new Map([...network.auxiliaryStateDict()].filter(([, tensor]) => kept.has(tensor)));
    },
  };
}

/** The number of the last layer of each block, from 1. */
function endsOf({ name, blocks: { length: layers } }: Network, grouping: Blocks): number[] {
  const refuse = (expected: string, got: string): never => {
    throw new ModelError(`training.blocks: expected ${expected} of ${name}, got ${got} (--blocks)`);
  };
  if (typeof grouping === 'number') {
    if (grouping > layers) refuse(`at most the ${layers} layers`, String(grouping));
    return Array.from({ length: grouping }, (_, i) => Math.floor(((i + 1) * layers) / grouping));
  }
  let end = 0;
  const ends = grouping.map((size) => (end += size));
  if (end !== layers)
    refuse(`numbers whose sum is the ${layers} layers`, `${grouping.join(', ')}, whose sum is ${end}`);
  return ends;
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
