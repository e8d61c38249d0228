import { describe, expect, it } from 'vitest';
import { cosine, linearWarmup, multiStep, OptimizerError, oneCycle, type Schedule } from '../../lib/optim/index.js';
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

interface StepSchedules {
  readonly cosine: readonly { options: Parameters<typeof cosine>[0]; rates: readonly number[] }[];
  readonly oneCycle: readonly { options: Parameters<typeof oneCycle>[0]; rates: readonly number[] }[];
  readonly linearWarmup: readonly {
    options: Omit<Parameters<typeof linearWarmup>[0], 'schedule'>;
    cosine: Parameters<typeof cosine>[0];
    rates: readonly number[];
  }[];
}

const stepSchedules = readFixture<StepSchedules>('step-schedules.json');

/** PyTorch's own come from the step before, whose roundings add up. */
function expectRates(schedule: Schedule, expected: readonly number[]): void {
  const rates = expected.map((_, step) => schedule(step));
  expectNumbersClose(rates, expected, 'rates', { relative: 1e-12, absolute: 1e-15 });
}

it.each(stepSchedules.cosine)('cosine equals CosineAnnealingLR: $options', ({ options, rates }) => {
  const schedule = cosine(options);
  expectRates(schedule, rates);
  expect(schedule(options.steps)).toBeCloseTo(0, 15);
  expect(schedule(options.steps + 3)).toBe(schedule(options.steps));
});

it.each(stepSchedules.oneCycle)('oneCycle equals OneCycleLR: $options', ({ options, rates }) => {
  const schedule = oneCycle(options);
  expectRates(schedule, rates);
  expect(schedule(options.steps + 3)).toBe(schedule(options.steps - 1));
});

it('oneCycle without a way up begins at its highest rate, and without a way down ends there', () => {
  expect(oneCycle({ highest: 2, steps: 4, pctStart: 0.25 })(0)).toBe(2);
  expect(oneCycle({ highest: 2, steps: 4, pctStart: 1 })(3)).toBe(2);
});

it.each(stepSchedules.linearWarmup)('linearWarmup equals LinearLR before CosineAnnealingLR: $options', (fixture) => {
  expectRates(linearWarmup({ ...fixture.options, schedule: cosine(fixture.cosine) }), fixture.rates);
});

it.each([
  ['cosine', 'initial', () => cosine({ initial: 0, steps: 3 })],
  ['cosine', 'steps', () => cosine({ initial: 1, steps: 0 })],
  ['oneCycle', 'highest', () => oneCycle({ highest: -1, steps: 3 })],
  ['oneCycle', 'steps', () => oneCycle({ highest: 1, steps: 2.5 })],
  ['oneCycle', 'pctStart', () => oneCycle({ highest: 1, steps: 3, pctStart: 1.5 })],
  ['oneCycle', 'divFactor', () => oneCycle({ highest: 1, steps: 3, divFactor: 0 })],
  ['oneCycle', 'finalDivFactor', () => oneCycle({ highest: 1, steps: 3, finalDivFactor: Number.NaN })],
  ['linearWarmup', 'steps', () => linearWarmup({ steps: 0, schedule: () => 1 })],
  ['linearWarmup', 'startFactor', () => linearWarmup({ steps: 1, startFactor: 0, schedule: () => 1 })],
  ['linearWarmup', 'schedule', () => linearWarmup({ steps: 1, schedule: 1 as never })],
])('%s refuses a bad %s by its name', (schedule, name, make) => {
  expect(make).toThrow(OptimizerError);
  expect(make).toThrow(new RegExp(`^${schedule}: expected .* for ${name}, got`));
});
