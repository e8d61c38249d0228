import { beforeAll, expect, it } from 'vitest';
import { FUZZ_COUNT, mutateJson } from './mutations.js';
import { ALL_EPOCHS, epochsOf, fuzz, makeRuns, networkOf, type Runs } from './runs.js';

let runs: Runs;
beforeAll(async () => {
  runs = await makeRuns();
});

it('a damaged state.json is refused, or the run ends with the same network', {
  timeout: 3_000 * FUZZ_COUNT,
}, async () => {
  const refused = await fuzz({
    folder: runs.folder,
    run: runs.stopped,
    file: 'checkpoint/state.json',
    mutateText: mutateJson,
    errors: ['RunDirectoryError'],
    check: (run, { result }) => {
      expect(networkOf(run)).toBe(networkOf(runs.finished));
      expect(epochsOf(run)).toEqual(ALL_EPOCHS);
      for (const layer of result.layers) expect(Number.isFinite(layer.trainLoss) && layer.seconds! >= 0).toBe(true);
    },
  });
  expect(refused).toBeGreaterThan(FUZZ_COUNT / 4);
});
