import { describe, expect, it } from 'vitest';
import { chooseExits, chooseThreshold } from '../../lib/finished/choose-exits.js';
import { type HeadAnswer, summarizeExits } from '../../lib/finished/head-answers.js';

/** Layers 1, 2 and 3: whether each head is right, and how sure it is. */
const answer = (...heads: [isRight: boolean, confidence: number][]): HeadAnswer => ({
  isRight: heads.map(([isRight]) => isRight),
  confidences: heads.map(([, confidence]) => confidence),
});

const ANSWERS = [
  answer([true, 0.96], [true, 0.99], [true, 0.999]),
  answer([true, 0.96], [true, 0.99], [true, 0.999]),
  answer([false, 0.65], [true, 0.92], [true, 0.999]),
  answer([false, 0.55], [false, 0.45], [true, 0.6]),
];

/** Each block costs 10, each head what it is told. */
const costsOf =
  (heads: readonly number[]) =>
  (layers: readonly number[]): number[] =>
    layers.map((layer, i) => 10 * (layer + 1) + layers.slice(0, i + 1).reduce((sum, asked) => sum + heads[asked]!, 0));

describe('images that leave', () => {
  it('are counted at the first layer that is surer than the threshold, with what they cost', () => {
    const costs = costsOf([1, 1, 1])([0, 1, 2]);
    expect(costs).toEqual([11, 22, 33]);
    const at = (threshold: number) => summarizeExits(ANSWERS, { layers: [0, 1, 2], threshold, costs });
    expect(at(0.9)).toEqual({ top1: 100, exits: [2, 1, 1], cost: (2 * 11 + 22 + 33) / 4 });
    expect(at(0.6)).toEqual({ top1: 75, exits: [3, 0, 1], cost: (3 * 11 + 33) / 4 });
    expect(at(0)).toEqual({ top1: 50, exits: [4, 0, 0], cost: 11 });
    expect(at(1)).toEqual({ top1: 100, exits: [0, 0, 4], cost: 33 });
    // Surer than it, not as sure.
    expect(at(0.96).exits).toEqual([0, 2, 2]);
  });
});

describe('the threshold', () => {
  it('is the smallest that loses no more than may be lost', () => {
    const choose = (tolerance: number) =>
      chooseThreshold(ANSWERS, [0, 1, 2], { wholeTop1: 100, tolerance, costsOf: costsOf([1, 1, 1]) });
    // At 0.7 the third image goes on to the second layer, which is right; the fourth is not sure of itself anywhere.
    expect(choose(0)).toMatchObject({ threshold: 0.7, top1: 100 });
    expect(choose(25)).toMatchObject({ threshold: 0.6, top1: 75 });
    expect(choose(50)).toMatchObject({ threshold: 0, top1: 50 });
  });

  it('is 1, where all leave at the last layer, if nothing else will do', () => {
    const wrong = [answer([false, 0.9999], [true, 0.9999])];
    expect(chooseThreshold(wrong, [0, 1], { wholeTop1: 100, tolerance: 0, costsOf: costsOf([1, 1]) })).toMatchObject({
      threshold: 1,
      exits: [0, 1],
    });
  });
});

describe('the layers to leave at', () => {
  it('are those whose heads are worth what they cost', () => {
    const choose = (heads: readonly number[]) =>
      chooseExits(ANSWERS, 3, { wholeTop1: 100, tolerance: 0, costsOf: costsOf(heads) });
    expect(choose([1, 1, 1])).toMatchObject({ layers: [0, 1, 2], threshold: 0.7 });
    // The first head is not cheaper than the second block.
    expect(choose([12, 1, 1])).toMatchObject({ layers: [1, 2] });
    expect(choose([100, 100, 1])).toMatchObject({ layers: [2], threshold: 0 });
  });
});
