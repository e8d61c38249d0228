import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';

const MODULE = join(import.meta.dirname, '..', '..', 'dist', 'cli', 'interrupt.js');

/** A process that does nothing but to wait, and says what its signals make of it. */
const PROGRAM = `
import { abortOnInterrupt } from ${JSON.stringify(pathToFileURL(MODULE).href)};
const interrupt = abortOnInterrupt(() => console.log('first'));
interrupt.signal.addEventListener('abort', () => console.log('aborted'));
process.on('SIGUSR2', () => { interrupt.release(); console.log('released'); });
setInterval(() => {}, 1000);
console.log('ready');
`;

function begin() {
  expect(existsSync(MODULE)).toBe(true);
  const child = spawn(process.execPath, ['--input-type=module', '--eval', PROGRAM], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  return {
    child,
    ended: new Promise((resolve) => child.on('close', (code, signal) => resolve(signal ?? code))),
    /** Waits for the output to be this. */
    async printed(expected: string): Promise<void> {
      await expect.poll(() => output, { timeout: 10_000, interval: 10 }).toBe(expected);
    },
  };
}

it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
  'the first %s aborts, a second one later stops the process at once',
  async (name) => {
    const { child, ended, printed } = begin();
    await printed('ready\n');
    child.kill(name);
    await printed('ready\nfirst\naborted\n');
    await sleep(700);
    child.kill(name);
    expect(await ended).toBe(130);
  },
);

it('signals that come together are one wish', async () => {
  const { child, ended, printed } = begin();
  await printed('ready\n');
  child.kill('SIGINT');
  await printed('ready\nfirst\naborted\n');
  child.kill('SIGINT');
  child.kill('SIGTERM');
  await sleep(700);
  expect(child.exitCode).toBeNull();
  await printed('ready\nfirst\naborted\n');
  child.kill('SIGKILL');
  expect(await ended).toBe('SIGKILL');
});

it('released, signals do again what they did before', async () => {
  const { child, ended, printed } = begin();
  await printed('ready\n');
  child.kill('SIGUSR2');
  await printed('ready\nreleased\n');
  child.kill('SIGINT');
  expect(await ended).toBe('SIGINT');
});
