// What LibTorch itself writes does not stand between a command's lines: file descriptor 2 is read.

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import { layerwise, TINY, temporaryFolder } from './cli.js';

const at = temporaryFolder();
const url = (...parts: string[]): string => pathToFileURL(join(import.meta.dirname, ...parts)).href;
const env = {
  NODE_OPTIONS: `--import=${url('libtorch-warns.mjs')}`,
  LAYERWISE_TEST_TENSOR: url('..', '..', 'dist', 'tensor', 'index.js'),
};
const UINT8 = /indexing with dtype torch\.uint8/;

it('LibTorch is not heard, unless it is asked for: then each text once, in a line of its own', async () => {
  const quiet = await layerwise(['train', ...TINY, '--out', at('quiet')], { env });
  expect(quiet).toMatchObject({ code: 0 });
  expect(`${quiet.stdout}${quiet.stderr}`).not.toMatch(UINT8);

  const verbose = await layerwise(['train', ...TINY, '--out', at('verbose'), '--verbose'], { env });
  expect(verbose.code).toBe(0);
  const told = verbose.stderr.split('\n').filter((line) => UINT8.test(line));
  expect(told).toHaveLength(1);
  expect(told[0]).toMatch(/^LibTorch: indexing/);
  expect(verbose.stdout).not.toMatch(UINT8);
});

it('standard output of --json has nothing of it', async () => {
  const { code, stdout, stderr } = await layerwise(['evaluate', '--run', at('quiet'), '--json'], { env });
  expect([code, UINT8.test(stdout + stderr)]).toEqual([0, false]);
  expect(() => JSON.parse(stdout)).not.toThrow();

  // It was there to be heard.
  const verbose = await layerwise(['evaluate', '--run', at('quiet'), '--json', '--verbose'], { env });
  expect(verbose).toMatchObject({ code: 0, stdout, stderr: expect.stringMatching(/^LibTorch: indexing/m) });
});
