import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { ByteBudget } from '../../lib/data/file-bytes.js';

/** Work of so many bytes that goes on until it is told to end. */
function work(budget: ByteBudget, bytes: number) {
  const { promise, resolve, reject } = deferred();
  const state = { begun: false, end: resolve, fail: reject, done: Promise.resolve() };
  state.done = budget.during(bytes, () => {
    state.begun = true;
    return promise;
  });
  return state;
}

function deferred() {
  let resolve!: () => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

it('work begins in order, while there is room for its bytes; what is larger than all of it, alone', async () => {
  const budget = new ByteBudget(100);
  const all = [60, 30, 20, 5, 1000, 0].map((bytes) => work(budget, bytes));
  const [sixty, thirty, twenty, five, large] = all as [(typeof all)[0], ...typeof all];
  const begun = async () => {
    await turn();
    return all.map((one) => one.begun);
  };
  // 5 bytes would fit beside 90, but wait behind 20.
  expect(await begun()).toEqual([true, true, false, false, false, false]);
  sixty!.end();
  expect(await begun()).toEqual([true, true, true, true, false, false]);
  thirty!.fail(new Error('no image'));
  await expect(thirty!.done).rejects.toThrow('no image');
  twenty!.end();
  expect(await begun()).toEqual([true, true, true, true, false, false]);
  five!.end();
  expect(await begun()).toEqual([true, true, true, true, true, true]);
  large!.end();
  all[5]!.end();
  await Promise.all([large!.done, all[5]!.done]);
});
