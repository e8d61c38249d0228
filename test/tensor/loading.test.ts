import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';

const library = new URL('../../dist/index.js', import.meta.url).href;

/** What a program prints that has the library and an addon of this path. */
function printed(addon: string | undefined, program: string): unknown {
  const { LAYERWISE_ADDON, ...env } = process.env;
  const text = `const library = await import(${JSON.stringify(library)}); ${program}`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', text], {
    encoding: 'utf8',
    env: { ...env, ...(addon === undefined ? {} : { LAYERWISE_ADDON: addon }) },
  });
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}

it('names and schemas need no addon; what first needs it says, each time, where it was looked for', () => {
  const program = `
    const failures = [1, 2].map(() => {
      try { return library.ones([1]).item(); } catch ({ name, code, message }) { return { name, code, message }; }
    });
    console.log(JSON.stringify([library.presetNames.length > 0, ...failures]));`;
  const failure = {
    name: 'TensorError',
    code: 'ADDON_UNAVAILABLE',
    message: expect.stringContaining('/nowhere/layerwise.node'),
  };
  expect(printed('/nowhere/layerwise.node', program)).toEqual([true, failure, failure]);
});

it('the addon is loaded by its first use', () => {
  const program = `
    const loaded = () => process.report.getReport().sharedObjects.some((path) => path.endsWith('layerwise.node'));
    const before = loaded();
    library.scope(() => library.ones([1]));
    console.log(JSON.stringify([before, loaded()]));`;
  expect(printed(process.env.LAYERWISE_ADDON, program)).toEqual([false, true]);
});
