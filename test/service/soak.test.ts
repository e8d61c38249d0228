// Many jobs in one process leave nothing behind. The long form is `npm run bench -- --cases soak`.
import { expect, it } from 'vitest';
import { leftBehind, soak } from '../../bench/soak.mjs';

it.runIf(process.platform === 'linux').each([
  { jobs: 12, concurrency: 1 },
  { jobs: 24, concurrency: 4 },
])('$jobs jobs, $concurrency at a time, leave nothing, and have the bits of a run alone', async (request) => {
  const soaked = await soak(request);
  expect(soaked.samples.length).toBeGreaterThanOrEqual(3);
  expect(soaked.otherBits).toBe(0);
  const { resident, ...others } = leftBehind(soaked);
  for (const [kind, more] of Object.entries(others)) expect(more, kind).toBeLessThanOrEqual(0);
  // So few jobs show only a leak of megabytes a job, such as that of a thread's heap.
  expect(resident).toBeLessThan(1.1);
});
