import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { FUZZ_COUNT, mutateJson } from './mutations.js';
import { ALL_EPOCHS, epochsOf, fuzz, makeRuns, networkOf, type Runs } from './runs.js';

let runs: Runs;
beforeAll(async () => {
  runs = await makeRuns();
});

it('a damaged config.json is refused, or the run ends as its recipe says', {
  timeout: 3_000 * FUZZ_COUNT,
}, async () => {
  const { recipe, threads } = JSON.parse(readFileSync(join(runs.stopped, 'config.json'), 'utf8'));
  const refused = await fuzz({
    folder: runs.folder,
    run: runs.stopped,
    file: 'config.json',
    mutateText: mutateJson,
    // Another data set than before may not be where the record says.
    errors: ['RunDirectoryError', 'RecipeError', 'DataError'],
    check: (run, { result }, text) => {
      const damaged = JSON.parse(text);
      // What decides a result: with the same, it is the same.
      if (JSON.stringify([damaged.recipe, damaged.threads]) === JSON.stringify([recipe, threads])) {
        expect(networkOf(run)).toBe(networkOf(runs.finished));
        expect(epochsOf(run)).toEqual(ALL_EPOCHS);
      }
      expect(result.layers.map(({ layer }) => layer)).toEqual([0, 1]);
    },
  });
  expect(refused).toBeGreaterThan(FUZZ_COUNT / 4);
});
