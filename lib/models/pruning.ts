import type { StateDict } from '../nn/index.js';
import { arange, type Tensor, tensor } from '../tensor/index.js';
import { ModelError } from './errors.js';
import type { SimCnn } from './simcnn.js';

/** Elements of the 2x2 average that the head's linear layer reads of each channel. */
const AVERAGED = 4;

/**
 * The tensors of a SimCNN's last layer and of its head, with only the given filters of that layer (rising indices): what
 * a network of fewer `widths` loads. Call it in a scope. Throws ModelError for indices that are not there.
 */
export function keepFilters(network: SimCnn, filters: readonly number[]): { block: StateDict; head: StateDict } {
  const block = network.blocks.at(-1)!.stateDict();
  const head = network.heads.at(-1)!.stateDict();
  const width = block.get('conv.weight')!.shape[0]!;
  const isRising = filters.every((filter, i) => Number.isInteger(filter) && filter > (filters[i - 1] ?? -1));
  if (filters.length === 0 || !isRising || filters.at(-1)! >= width) {
    throw new ModelError(`keepFilters: expected rising indices from 0 to ${width - 1}, got ${filters.join(', ')}`);
  }
  const { device } = block.get('conv.weight')!;
  const kept = tensor(Int32Array.from(filters), { device });
  const hasConvolutions = head.has('conv0.weight');
  const inColumns = (weight: Tensor): Tensor => {
    const columns = kept.mul(AVERAGED).unsqueeze(1).add(arange(AVERAGED, { device })).flatten();
    return weight.detach().indexSelect(1, columns);
  };
  const ofHead = (name: string, value: Tensor): Tensor => {
    if (hasConvolutions) return name === 'conv0.weight' ? value.detach().indexSelect(1, kept) : value;
    if (name === 'linear.weight') return inColumns(value);
    return name.startsWith('bn.') && value.dim === 1 ? value.detach().indexSelect(0, kept) : value;
  };
  return {
    block: new Map(
      [...block].map(([name, value]) => [name, value.dim === 0 ? value : value.detach().indexSelect(0, kept)]),
    ),
    head: new Map([...head].map(([name, value]) => [name, ofHead(name, value)])),
  };
}
