import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';

const moduleOf = (name: string): string => join(import.meta.dirname, '..', '..', 'dist', 'cli', name);
const MODULE = moduleOf('interrupt.js');

/** A process that does nothing but to wait, and says what its signals make of it. Its clock stands until it is told. */
const PROGRAM = `
import { abortOnInterrupt } from ${JSON.stringify(pathToFileURL(MODULE).href)};
let clock = 1000;
performance.now = () => clock;
process.on('message', (milliseconds) => { clock += milliseconds; console.log('later'); });
const interrupt = abortOnInterrupt(() => console.log('first'));
interrupt.signal.addEventListener('abort', () => console.log('aborted'));
const hear = (name) => console.log(name);
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.prependListener(name, hear);
process.on('SIGUSR2', () => {
  interrupt.release();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.off(name, hear);
  console.log('released');
});
console.log('ready');
`;

/** One that watches from its start, and whose command begins, ends and takes its time as it is told. */
const WATCHING = `
import { watchSignals } from ${JSON.stringify(pathToFileURL(moduleOf('signals.js')).href)};
let clock = 1000;
performance.now = () => clock;
watchSignals();
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, () => console.log(name));
const { abortOnInterrupt } = await import(${JSON.stringify(pathToFileURL(MODULE).href)});
let interrupt;
process.on('message', (told) => {
  if (told === 'begin') {
    interrupt = abortOnInterrupt(() => console.log('first'));
    console.log(interrupt.signal.aborted ? 'aborted' : 'at work');
  } else if (told === 'end') {
    interrupt.release();
    console.log('over');
  } else if (told === 'leave') {
    process.disconnect();
  } else {
    clock += told;
    console.log('later');
  }
});
console.log('ready');
`;
const SENTENCE = 'layerwise: interrupted while no command was at work\n';

function begin(program = PROGRAM) {
  expect(existsSync(MODULE)).toBe(true);
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let output = '';
  let errors = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  return {
    child,
    errors: () => errors,
    ended: new Promise((resolve) => child.on('close', (code, signal) => resolve(signal ?? code))),
    /** Waits for the next output to be these lines. */
    async prints(...lines: string[]): Promise<void> {
      const expected = lines.map((line) => `${line}\n`).join('');
      await expect.poll(() => output, { timeout: 30_000, interval: 10 }).toBe(expected);
      output = '';
    },
  };
}

it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
  'the first %s aborts, a second one later stops the process at once',
  async (name) => {
    const { child, ended, prints } = begin();
    await prints('ready');
    child.kill(name);
    await prints(name, 'first', 'aborted');
    child.send(501);
    await prints('later');
    child.kill(name);
    expect(await ended).toBe(130);
  },
);

it('signals that come together are one wish', async () => {
  const { child, ended, prints } = begin();
  await prints('ready');
  child.kill('SIGINT');
  await prints('SIGINT', 'first', 'aborted');
  child.send(500);
  await prints('later');
  child.kill('SIGINT');
  await prints('SIGINT');
  child.kill('SIGTERM');
  await prints('SIGTERM');
  // It goes on.
  child.send(0);
  await prints('later');
  child.kill('SIGKILL');
  expect(await ended).toBe('SIGKILL');
});

it('released, signals do again what they did before', async () => {
  const { child, ended, prints } = begin();
  await prints('ready');
  child.kill('SIGUSR2');
  await prints('released');
  child.kill('SIGINT');
  expect(await ended).toBe('SIGINT');
});

it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s before the command is loaded waits for it', async (name) => {
  const { child, ended, errors, prints } = begin(WATCHING);
  await prints('ready');
  child.kill(name);
  await prints(name);
  child.send('begin');
  await prints('first', 'aborted');
  // The command has taken it: what ends the process is the command.
  child.send('end');
  await prints('over');
  child.send('leave');
  expect([await ended, errors()]).toEqual([0, '']);
});

it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s after the command ends the process with 130', async (name) => {
  const { child, ended, errors, prints } = begin(WATCHING);
  await prints('ready');
  child.send('begin');
  await prints('at work');
  child.send('end');
  await prints('over');
  child.kill(name);
  await prints(name);
  child.send('leave');
  expect([await ended, errors()]).toEqual([130, SENTENCE]);
});

it('a second signal, where no command takes the first, ends the process at once', async () => {
  const { child, ended, errors, prints } = begin(WATCHING);
  await prints('ready');
  child.kill('SIGTERM');
  await prints('SIGTERM');
  child.send(500);
  await prints('later');
  child.kill('SIGTERM');
  await prints('SIGTERM');
  child.send(1);
  await prints('later');
  child.kill('SIGTERM');
  expect([await ended, errors()]).toEqual([130, SENTENCE]);
});
