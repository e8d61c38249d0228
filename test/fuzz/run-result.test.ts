import { beforeAll, expect, it } from 'vitest';
import { FUZZ_COUNT, mutateJson } from './mutations.js';
import { fuzz, makeRuns, networkOf, type Runs } from './runs.js';

let runs: Runs;
beforeAll(async () => {
  runs = await makeRuns();
});

it('a damaged result.json is refused, or given as it is', { timeout: 3_000 * FUZZ_COUNT }, async () => {
  const refused = await fuzz({
    folder: runs.folder,
    run: runs.finished,
    file: 'result.json',
    mutateText: mutateJson,
    errors: ['RunDirectoryError'],
    check: (run, { result }, text) => {
      expect(JSON.parse(text)).toMatchObject(result);
      expect(networkOf(run)).toBe(networkOf(runs.finished));
      expect(result.layers.at(-1)!.layer).toBe(1);
      expect(result.confusion?.flat().reduce((sum, count) => sum + count) ?? 8).toBe(8);
      for (const { testTop1 } of result.layers) expect(testTop1 ?? 0).toBeLessThanOrEqual(100);
    },
  });
  expect(refused).toBeGreaterThan(FUZZ_COUNT / 4);
});
