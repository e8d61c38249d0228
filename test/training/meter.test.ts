import { expect, it } from 'vitest';
import { memoryStats, scope, tensor } from '../../lib/tensor/index.js';
import { EpochMeter } from '../../lib/training/meter.js';

/** Batches as [images, mean loss, hits]. */
const BATCHES = [
  [16, 2, 4],
  [16, 1.5, 8],
  [4, 0.25, 3],
] as const;
const LOSS = (16 * 2 + 16 * 1.5 + 4 * 0.25) / 36;
const TOP1 = (100 * 15) / 36;

function add(meter: EpochMeter, step: number): number[] {
  const [images, loss, correct] = BATCHES[step]!;
  return scope(() =>
    meter
      .add(step, images, tensor([loss], { shape: [] }), tensor([correct], { shape: [], dtype: 'int64' }))
      .map((read) => read.step),
  );
}

/** A clock on which a step takes a second. */
const clock = (): (() => number) => {
  let now = -1;
  return () => ++now;
};

it.each([0, 2, 50])('weighs batches by their images, read every %i seconds', (everySeconds) => {
  const meter = new EpochMeter({ everySeconds, now: clock() });
  expect(meter.hasRead).toBe(false);
  const read = [0, 1, 2].flatMap((step) => add(meter, step));
  expect([...read, ...meter.flush().map(({ step }) => step)]).toEqual([0, 1, 2]);
  expect(meter.loss()).toBeCloseTo(LOSS, 12);
  expect(meter.top1()).toBeCloseTo(TOP1, 12);
  meter.dispose();
});

it('reads nothing before its time', () => {
  const meter = new EpochMeter({ everySeconds: 3, now: clock() });
  expect([add(meter, 0), add(meter, 1)]).toEqual([[], []]);
  expect(meter.states[0]!.images).toBe(0);
  expect(meter.hasRead).toBe(false);
  expect(add(meter, 2)).toEqual([0, 1, 2]);
  expect(meter.hasRead).toBe(true);
  meter.dispose();
});

it('goes on from a saved state, and does not change it', () => {
  const first = new EpochMeter({ everySeconds: 0 });
  add(first, 0);
  const saved = { ...first.states[0]! };
  const second = new EpochMeter({ everySeconds: 0, states: [saved] });
  add(second, 1);
  add(second, 2);
  expect(second.loss()).toBeCloseTo(LOSS, 12);
  expect(second.top1()).toBeCloseTo(TOP1, 12);
  expect(saved).toEqual({ lossSum: 32, correct: 4, images: 16 });
});

it('sums each of several problems', () => {
  const meter = new EpochMeter({ everySeconds: 50, problems: 2 });
  scope(() => {
    for (const [step, [images, loss, correct]] of BATCHES.entries()) {
      meter.add(step, images, tensor([loss, 2 * loss]), tensor([correct, 0], { dtype: 'int64' }));
    }
  });
  const read = meter.flush();
  expect(read.map(({ step, problem }) => [step, problem])).toEqual(
    [0, 1, 2].flatMap((step) => [
      [step, 0],
      [step, 1],
    ]),
  );
  expect(read.map(({ loss }) => loss)).toEqual(BATCHES.flatMap(([, loss]) => [loss, 2 * loss]));
  expect([meter.loss(0), meter.loss(1), meter.loss()]).toEqual([LOSS, 2 * LOSS, 2 * LOSS]);
  expect([meter.top1(0), meter.top1(1), meter.top1()]).toEqual([TOP1, 0, 0]);
  expect(meter.states.map(({ images }) => images)).toEqual([36, 36]);
});

it('frees what it has not read', () => {
  const before = memoryStats();
  const meter = new EpochMeter({ everySeconds: 50 });
  add(meter, 0);
  expect(memoryStats().liveTensors).toBe(before.liveTensors + 2);
  meter.dispose();
  expect(memoryStats()).toEqual(before);
});
