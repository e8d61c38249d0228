// A run computes on its own number of threads, whatever runs beside it, and leaves the caller's as they were.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { RunDirectory } from '../../lib/run/index.js';
import { buildInfo, getThreads, setThreads } from '../../lib/tensor/index.js';
import { resume, train } from '../../lib/training/index.js';
import { Turn } from '../../lib/training/turn.js';
import { productOf, smallRecipe, startAndStop, temporaryFolder } from './runs.js';

const at = temporaryFolder();

let before: number;
beforeEach(() => {
  before = getThreads();
});
afterEach(() => setThreads(before));

const recipeOn = (threads: number | null) => smallRecipe({ threads });
const threadsOf = async (directory: string) => (await RunDirectory.open(directory).readConfig()).threads;

it.runIf(buildInfo().mostThreads >= 3)('runs on other numbers of threads take turns', async () => {
  const seen: number[] = [];
  const start = (threads: number, name: string) =>
    train({
      recipe: recipeOn(threads),
      out: at(name),
      // Told in the middle of a step's turn.
      onEvent: (event) => void (event.type === 'step' && seen.push(threads, getThreads())),
    });
  await Promise.all([start(1, 'one'), start(2, 'two'), start(3, 'three')]);
  // 16 steps each, and each saw its own.
  expect(seen.length).toBe(2 * 3 * 16);
  for (let i = 0; i < seen.length; i += 2) expect(seen[i + 1]).toBe(seen[i]);
  // In turns, not one after the other.
  expect(new Set(seen.slice(0, 12)).size).toBe(3);
  expect(await Promise.all(['one', 'two', 'three'].map((name) => threadsOf(at(name))))).toEqual([1, 2, 3]);
  expect(getThreads()).toBe(before);

  await train({ recipe: recipeOn(2), out: at('alone') });
  expect(productOf(at('two'))).toEqual(productOf(at('alone')));
});

it.runIf(buildInfo().mostThreads >= 2)(
  "a run on the caller's own threads is not changed by one before it",
  async () => {
    setThreads(2);
    await train({ recipe: recipeOn(1), out: at('first') });
    expect(getThreads()).toBe(2);
    await train({ recipe: recipeOn(null), out: at('second') });
    expect(await threadsOf(at('second'))).toBe(2);
  },
);

it('the threads come back after a run that fails, is refused or is stopped, and after one that goes on', async () => {
  const other = before === 1 ? 2 : 1;
  await expect(
    train({ recipe: smallRecipe({ threads: other, training: { learningRate: 1e30 } }), out: at('fails') }),
  ).rejects.toThrow();
  expect(getThreads()).toBe(before);
  await expect(train({ recipe: smallRecipe({ threads: buildInfo().mostThreads + 1 }), out: at('no') })).rejects.toThrow(
    'threads',
  );
  expect(getThreads()).toBe(before);
  await startAndStop({ recipe: recipeOn(other), out: at('stopped') });
  expect(getThreads()).toBe(before);
  await resume(at('stopped'));
  expect(getThreads()).toBe(before);
});

it('a run that waits for other processes is alone in its thread, whichever is first', async () => {
  const together = { waitsForOthers: true };
  const never = (): Promise<void> => Promise.reject(new Error('it was begun'));
  for (const options of [{}, together]) {
    await Turn.during(
      null,
      () => expect(Turn.during(null, never, options)).rejects.toThrow('beside another run'),
      together,
    );
  }
  await Turn.during(null, () => expect(Turn.during(null, never, together)).rejects.toThrow('beside another run'));
  // And afterwards there may be one.
  await Turn.during(null, async () => {}, together);
  expect(getThreads()).toBe(before);
});
