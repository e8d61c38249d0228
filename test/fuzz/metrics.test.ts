import { beforeAll, expect, it } from 'vitest';
import { FUZZ_COUNT, mutateLines } from './mutations.js';
import { ALL_EPOCHS, epochsOf, fuzz, makeRuns, networkOf, type Runs } from './runs.js';

let runs: Runs;
beforeAll(async () => {
  runs = await makeRuns();
});

it('damaged metrics.jsonl are refused, or the run ends with all epochs', { timeout: 3_000 * FUZZ_COUNT }, async () => {
  const refused = await fuzz({
    folder: runs.folder,
    run: runs.stopped,
    file: 'metrics.jsonl',
    mutateText: mutateLines,
    errors: ['RunDirectoryError'],
    check: (run, { result }) => {
      expect(networkOf(run)).toBe(networkOf(runs.finished));
      expect(epochsOf(run)).toEqual(ALL_EPOCHS);
      expect(result.layers.map(({ layer }) => layer)).toEqual([0, 1]);
    },
  });
  expect(refused).toBeGreaterThan(FUZZ_COUNT / 4);
});
