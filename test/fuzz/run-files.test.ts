import { expect, it } from 'vitest';
import { Choices } from './choices.js';
import { goodBytes, isRefused, runFiles } from './run-files.js';

it.each(runFiles)(
  'a good $file is taken and an empty one refused, so that each end comes from the damage',
  async (runFile) => {
    expect(await isRefused(runFile, await goodBytes(runFile))).toBe(false);
    expect(await isRefused(runFile, Buffer.alloc(0))).toBe(true);
  },
);

it.each(runFiles)('most damage changes $file', async (runFile) => {
  const good = String(await goodBytes(runFile));
  const damaged = Array.from({ length: 50 }, (_, number) => runFile.mutateText(good, new Choices({ seed: 1, number })));
  expect(damaged.filter((text) => text.trim() !== good.trim()).length).toBeGreaterThan(25);
});
