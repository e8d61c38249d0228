// How OpenMP's threads wait is decided before LibTorch is loaded: read from what libgomp says of itself.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const run = promisify(execFile);
const library = new URL('../../dist/tensor/index.js', import.meta.url).href;
const load = `await import(${JSON.stringify(library)});`;

async function spinCount(program: string, env: Record<string, string> = {}): Promise<string | undefined> {
  const variables = { ...process.env, OMP_DISPLAY_ENV: 'VERBOSE', ...env };
  const { stdout, stderr } = await run(process.execPath, ['--input-type=module', '-e', program], { env: variables });
  return /GOMP_SPINCOUNT = '(.*?)'/.exec(`${stdout}${stderr}`)?.[1];
}

it('they look for work a thousand times, then sleep', async () => {
  expect(await spinCount(load)).toBe('1000');
});

it('also where a worker is the first to load the library', async () => {
  const program = `
    import { Worker } from 'node:worker_threads';
    new Worker(${JSON.stringify(`import(${JSON.stringify(library)})`)}, { eval: true, execArgv: [] });`;
  expect(await spinCount(program)).toBe('1000');
});

it('unless the environment says otherwise', async () => {
  expect(await spinCount(load, { GOMP_SPINCOUNT: '77' })).toBe('77');
  expect(await spinCount(load, { OMP_WAIT_POLICY: 'passive' })).toBe('0');
});

it('and child processes do not inherit it', async () => {
  const program = `${load}
    import { execFileSync } from 'node:child_process';
    process.stdout.write(execFileSync('/usr/bin/env', { encoding: 'utf8' }).includes('GOMP_SPINCOUNT') ? 'yes' : 'no');`;
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program], {
    env: { PATH: process.env.PATH },
  });
  expect(stdout).toBe('no');
});
