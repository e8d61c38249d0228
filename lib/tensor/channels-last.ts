import type { Tensor } from './tensor.js';

/** A tensor as the trainer lays it out: contiguous, [n, channels, height, width] with the channels last in memory. */
export const channelsLast = (tensor: Tensor): Tensor =>
  tensor.contiguous({ memoryFormat: tensor.dim === 4 ? 'channelsLast' : 'contiguous' });
