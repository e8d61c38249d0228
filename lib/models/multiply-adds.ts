import type { Module } from '../nn/index.js';
import { noGrad, rehearse, scope, type Tensor, zeros } from '../tensor/index.js';
import type { Network } from './network.js';

/** Multiply-adds of one image's forward pass through a layer: those of products and convolutions. */
export interface LayerMultiplyAdds {
  readonly block: number;
  readonly head: number;
}

/** Of each layer of a network on the device meta; LibTorch 2.4 or later. */
export function multiplyAddsOf({ blocks, heads, inputShape }: Network): LayerMultiplyAdds[] {
  return noGrad(() =>
    scope(() => {
      let input = zeros([1, ...inputShape], { device: 'meta' });
      return blocks.map((block, layer) => {
        const passed = rehearseModules([block], input);
        input = passed.output;
        return { block: passed.multiplyAdds, head: rehearseModules([heads[layer]!], input).multiplyAdds };
      });
    }),
  );
}

/** What modules in evaluation mode, one after another, make of an input on meta, and the multiply-adds of it. */
export function rehearseModules(
  modules: readonly Module[],
  input: Tensor,
): { readonly output: Tensor; readonly multiplyAdds: number } {
  const { result, multiplyAdds } = rehearse(() => modules.reduce((x, module) => module.eval().forward(x), input));
  return { output: result, multiplyAdds };
}
