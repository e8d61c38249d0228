import { expect, it } from 'vitest';
import { BatchesAhead } from '../../lib/data/batches-ahead.js';

it('a batch that is made as the pass is stopped is freed once, and not given out', async () => {
  const dropped: number[] = [];
  let finish = (_: number): void => {};
  const pass = new BatchesAhead<number>({
    begin: (batch) => (batch > 0 ? null : { batch: new Promise((resolve) => (finish = resolve)), cancel: () => {} }),
    first: 0,
    ahead: 0,
    drop: (batch) => dropped.push(batch),
  });
  const next = pass.next();
  finish(7);
  const stopped = pass.stop();
  await expect(next).rejects.toMatchObject({ code: 'DATA_CANCELLED' });
  await stopped;
  expect(dropped).toEqual([7]);
});
