// What people see of a run while it goes on.
import { stripVTControlCharacters } from 'node:util';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { type ProgressView, progressView } from '../../lib/cli/progress.js';
import type { TrainingEvent } from '../../lib/training/events.js';

const [HIDE_CURSOR, SHOW_CURSOR, ERASE_LINE] = ['\x1b[?25l', '\x1b[?25h', '\x1b[2K'] as const;

const isTTY = process.stdout.isTTY;
let written = '';
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance', 'Date', 'setTimeout', 'clearTimeout'] });
  written = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    written += text;
    return true;
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  process.stdout.isTTY = isTTY;
});

function view({ terminal }: { terminal: boolean }): ProgressView {
  process.stdout.isTTY = terminal;
  return progressView({ json: false });
}

const start = {
  ...{ type: 'start', runDirectory: 'runs/one', resumedFrom: null, notes: [], plan: null },
  config: { preset: 'p', recipe: {}, seed: 1, device: 'cpu', precision: 'fp32', threads: 1, versions: {} },
} as unknown as TrainingEvent;

/** Of a run of 20 steps, ten an epoch. */
const step = (stepsDone: number): TrainingEvent => ({
  ...{ type: 'step', layer: 0, epoch: stepsDone > 10 ? 1 : 0, step: stepsDone > 10 ? stepsDone - 10 : stepsDone },
  ...{ stepsPerEpoch: 10, stepsDone, stepsTotal: 20, loss: 1.5, top1: 25, imagesPerSecond: 99.6 },
});

const epoch: TrainingEvent = {
  ...{
    type: 'epoch',
    layer: 0,
    epoch: 0,
    learningRate: 0.05,
    trainLoss: 1.5,
    trainTop1: 25,
    testLoss: 1.25,
    testTop1: 30,
  },
  ...{ testTop5: 80, ensembleTop1: null, ensembleTop5: null, seconds: 12, imagesPerSecond: 99.6 },
};

it('a terminal has a bar of the epoch with the time left, which is gone when the epoch is over', () => {
  const terminal = view({ terminal: true });
  terminal.show(start);
  written = '';
  vi.advanceTimersByTime(2_000);
  terminal.show(step(1));
  // 19 steps of 2 seconds.
  expect(stripVTControlCharacters(written)).toMatch(
    /^layer 1 epoch 1 .{24} 10% · loss 1\.500 · top-1 25\.0 % · 100 images\/s · 0:38 left$/,
  );
  written = '';
  vi.advanceTimersByTime(4_000);
  terminal.show(step(2));
  // 18 steps of 3 seconds.
  expect(stripVTControlCharacters(written)).toMatch(/ 20% .* 0:54 left$/);
  terminal.show(epoch);
  // The line of the bar is erased and the cursor shown again before the epoch is told.
  expect(written).toContain(SHOW_CURSOR);
  expect(written).toContain(`${ERASE_LINE}layer 1 epoch 1: learning rate 0.0500, `);
  written = '';
  vi.advanceTimersByTime(4_000);
  expect(written).toBe('');
});

it('a terminal is left with its cursor when a run ends in the middle of an epoch', () => {
  const terminal = view({ terminal: true });
  terminal.show(step(1));
  expect(written).toContain(HIDE_CURSOR);
  terminal.close();
  expect(written.lastIndexOf(SHOW_CURSOR)).toBeGreaterThan(written.lastIndexOf(HIDE_CURSOR));
  expect(written.endsWith(ERASE_LINE)).toBe(true);
});

it('the time left counts neither what came before the first step nor steps of an earlier process', () => {
  const plain = view({ terminal: false });
  // Reading the data.
  vi.advanceTimersByTime(600_000);
  plain.show(start);
  written = '';
  vi.advanceTimersByTime(30_000);
  plain.show(step(11));
  // 9 steps of 30 seconds.
  expect(written).toBe('layer 1 epoch 2 step 1 of 10: loss 1.5000, top-1 25.00 %, 100 images/s, about 4:30 left\n');
});

it('without a terminal a step is told at most every ten seconds', () => {
  const plain = view({ terminal: false });
  plain.show(start);
  written = '';
  for (let done = 1; done <= 20; done++) {
    vi.advanceTimersByTime(3_000);
    plain.show(step(done));
  }
  expect(written.match(/step \d+ of 10/g)).toEqual([
    'step 4 of 10',
    'step 8 of 10',
    'step 2 of 10',
    'step 6 of 10',
    'step 10 of 10',
  ]);
});
