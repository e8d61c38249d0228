import { describe, expect, it } from 'vitest';
import { multiStep, OptimizerError } from '../../lib/optim/index.js';
import { expectNumbersClose, readFixture } from '../support/fixtures.js';

interface ScheduleFixture {
  readonly initial: number;
  readonly milestones: readonly number[];
  readonly factor: number;
  readonly rates: readonly number[];
}

describe('multiStep', () => {
  it.each(readFixture<ScheduleFixture[]>('schedules.json'))('equals MultiStepLR at $milestones', (fixture) => {
    const { rates: expected, ...options } = fixture;
    const schedule = multiStep(options);
    const rates = expected.map((_, epoch) => schedule(epoch));
    expectNumbersClose(rates, expected, 'rates', { relative: 1e-14 });
  });

  it('gives the same rate in whatever order epochs are asked for', () => {
    const schedule = multiStep({ initial: 1, milestones: [2, 4], factor: 0.5 });
    expect([5, 0, 3, 1].map(schedule)).toEqual([0.25, 1, 0.5, 1]);
  });

  it.each([
    ['initial', { initial: 0, milestones: [], factor: 0.1 }],
    ['initial', { initial: Number.NaN, milestones: [], factor: 0.1 }],
    ['milestones', { initial: 1, milestones: [3, 3], factor: 0.1 }],
    ['milestones', { initial: 1, milestones: [4, 2], factor: 0.1 }],
    ['milestones', { initial: 1, milestones: [0], factor: 0.1 }],
    ['milestones', { initial: 1, milestones: [1.5], factor: 0.1 }],
    ['milestones', { initial: 1, milestones: 3 as never, factor: 0.1 }],
    ['factor', { initial: 1, milestones: [], factor: -3 }],
    ['factor', { initial: 1, milestones: [], factor: 0 }],
    ['factor', { initial: 1, milestones: [], factor: Number.NaN }],
    ['factor', { initial: 1, milestones: [] } as never],
  ])('refuses a bad %s by its name', (name, options) => {
    expect(() => multiStep(options)).toThrow(OptimizerError);
    expect(() => multiStep(options)).toThrow(new RegExp(name));
  });
});
