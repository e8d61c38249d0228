import { describe, expect, it } from 'vitest';
import { buildInfo, CudaGraph, keep, ones, rand, scope, TensorError } from '../../lib/tensor/index.js';

it('is refused on the CPU, and nothing is run', () => {
  let ran = false;
  const capture = (): CudaGraph =>
    CudaGraph.capture('cpu', () => {
      ran = true;
    });
  expect(capture).toThrow(TensorError);
  expect(capture).toThrow('captureGraph: expected a CUDA device for device, got cpu');
  expect(ran).toBe(false);
});

describe.runIf(buildInfo().cudaAvailable)('on a GPU', () => {
  const device = 'cuda:0';

  it('a replay does the captured work on what its tensors hold by then', () => {
    scope(() => {
      const input = ones([1000], { device });
      const sum = ones([], { device });
      const work = (): void => {
        scope(() => sum.add_(input.mul(2).sum()));
      };
      work();
      expect(sum.item()).toBe(2001);
      const graph = CudaGraph.capture(device, work);
      expect(sum.item(), 'a capture runs nothing').toBe(2001);
      graph.replay();
      input.fill_(3);
      graph.replay();
      expect(sum.item()).toBe(2001 + 2000 + 6000);
      graph.dispose();
      graph.dispose();
    });
  });

  it('holds the result of the latest replay, drawn anew', () => {
    scope(() => {
      scope(() => rand([8], { device }));
      let drawn = ones([1]);
      using graph = CudaGraph.capture(device, () => {
        drawn = keep(rand([8], { device }));
      });
      graph.replay();
      const first = drawn.toArray();
      graph.replay();
      expect(drawn.toArray()).not.toEqual(first);
      drawn.dispose();
    });
  });

  it('an error in the work is told as it is, and the next capture is whole', () => {
    expect(() =>
      CudaGraph.capture(device, () => {
        throw new Error('of my own');
      }),
    ).toThrow('of my own');
    expect(() => CudaGraph.capture(device, () => scope(() => ones([2], { device }).item()))).toThrow(TensorError);
    scope(() => {
      const one = ones([1], { device });
      using graph = CudaGraph.capture(device, () => {
        one.add_(1);
      });
      graph.replay();
      expect(one.item()).toBe(2);
    });
  });
});
