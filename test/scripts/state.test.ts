import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { script, temporaryFolder } from './scripts.js';

const { Stamps } = await script('support/stamps.mjs');
const { withLock } = await script('support/lock.mjs');
const { digestFiles } = await script('support/files.mjs');
const { readDynamicSection } = await script('support/elf.mjs');

test('a step is fresh only while its inputs and its outputs are what they were, also for the next process', () => {
  const folder = temporaryFolder();
  const stamps = new Stamps(folder);
  expect(stamps.isFresh('addon', ['a'], ['b'])).toBe(false);
  stamps.record('addon', ['a'], ['b']);
  expect(stamps.isFresh('addon', ['a'], ['b'])).toBe(true);
  expect(new Stamps(folder).isFresh('addon', ['a'], ['b'])).toBe(true);
  expect(new Stamps(folder).isFresh('addon', ['changed'], ['b'])).toBe(false);
  expect(new Stamps(folder).isFresh('addon', ['a'], ['changed'])).toBe(false);
});

test('a step that began and did not end is not fresh, and the others stay so', () => {
  const folder = temporaryFolder();
  const stamps = new Stamps(folder);
  stamps.record('one', [], []);
  stamps.record('two', [], []);
  stamps.forget('two');
  const next = new Stamps(folder);
  expect([next.isFresh('one', [], []), next.isFresh('two', [], [])]).toEqual([true, false]);
});

test('a stamp file that a crash left half written counts as none', () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'stamps.json'), '{"one": {"inp');
  expect(new Stamps(folder).isFresh('one', [], [])).toBe(false);
});

test('a digest changes with a content, not with a time, and tells an empty file from none', () => {
  const file = join(temporaryFolder(), 'file');
  const absent = digestFiles([file]);
  writeFileSync(file, '');
  const empty = digestFiles([file]);
  expect(empty).not.toBe(absent);
  utimesSync(file, 1, 1);
  expect(digestFiles([file])).toBe(empty);
  writeFileSync(file, 'x');
  expect(digestFiles([file])).not.toBe(empty);
});

test('a lock lets one work at a time and goes on an error too', async () => {
  const lock = join(temporaryFolder(), 'lock');
  let inside = 0;
  let most = 0;
  const work = async () => {
    most = Math.max(most, ++inside);
    await new Promise((resolve) => setTimeout(resolve, 20));
    inside--;
  };
  await Promise.all([1, 2, 3].map(() => withLock(lock, work, { pollMs: 5 })));
  expect(most).toBe(1);
  await expect(
    withLock(lock, () => {
      throw new Error('broken');
    }),
  ).rejects.toThrow('broken');
  expect(existsSync(lock)).toBe(false);
});

test('the lock of a process that was killed is taken over, by one of several waiters at a time', async () => {
  const lock = join(temporaryFolder(), 'lock');
  const dead = spawn(process.execPath, ['-e', '']);
  await new Promise((resolve) => dead.once('exit', resolve));
  writeFileSync(lock, JSON.stringify({ pid: dead.pid, host: hostname(), started: '1', token: 'dead' }));
  const order: string[] = [];
  const waiter = () =>
    withLock(
      lock,
      async () => {
        order.push('in');
        await new Promise((resolve) => setTimeout(resolve, 10));
        order.push('out');
      },
      { pollMs: 2 },
    );
  await Promise.all([waiter(), waiter(), waiter()]);
  expect(order).toEqual(['in', 'out', 'in', 'out', 'in', 'out']);
});

test("a reused process id is not taken for the lock's holder", async () => {
  const lock = join(temporaryFolder(), 'lock');
  writeFileSync(lock, JSON.stringify({ pid: process.pid, host: hostname(), started: 'earlier', token: 'other' }));
  expect(await withLock(lock, () => 'mine')).toBe('mine');
});

test('a lock whose holder lives is waited for, said once, and left by an abort', async () => {
  const lock = join(temporaryFolder(), 'lock');
  const holders: unknown[] = [];
  await withLock(lock, async () => {
    const options = {
      pollMs: 5,
      signal: AbortSignal.timeout(50),
      onWait: (holder: { pid: number }) => holders.push(holder.pid),
    };
    await expect(withLock(lock, () => 'never', options)).rejects.toThrow();
  });
  expect(holders).toEqual([process.pid]);
});

// The loader's own reader of the format stands by on every machine that can build the addon.
test.runIf(process.platform === 'linux')('reads of a shared library what readelf reads', () => {
  const folder = temporaryFolder();
  const library = join(folder, 'libsample.so');
  writeFileSync(join(folder, 'sample.c'), 'int sample(void) { return 1; }\n');
  const flags = [
    '-shared',
    '-fPIC',
    '-Wl,--disable-new-dtags',
    '-Wl,-rpath,$ORIGIN/there',
    '-Wl,-soname,libsample.so.4',
  ];
  execFileSync('cc', [...flags, '-Wl,--no-as-needed', '-lm', '-o', library, join(folder, 'sample.c')]);
  const readelf = execFileSync('readelf', ['-d', library], { encoding: 'utf8' });
  const all = (tag: string) =>
    [...readelf.matchAll(new RegExp(`\\(${tag}\\).*\\[(.*)\\]`, 'g'))].map(([, value]) => value);
  const [soname] = all('SONAME');
  const [rpath] = all('RPATH');
  expect(readDynamicSection(library)).toEqual({ needed: all('NEEDED'), soname, rpath, runpath: undefined });
  expect(rpath).toBe('$ORIGIN/there');
});

test('a file that is no library is told apart', () => {
  const file = join(temporaryFolder(), 'file.so');
  writeFileSync(file, 'GROUP ( libsample.so )\n');
  expect(readDynamicSection(file)).toBeUndefined();
});

test('the exit of a process leaves no lock behind', () => {
  const lock = join(temporaryFolder(), 'lock');
  const module = new URL('../../scripts/support/lock.mjs', import.meta.url).href;
  const code = `import { withLock } from ${JSON.stringify(module)};
    await withLock(${JSON.stringify(lock)}, () => { console.log('held'); process.exit(3); });`;
  const child = () => execFileSync(process.execPath, ['--input-type=module', '-e', code], { stdio: 'pipe' });
  expect(child).toThrow(expect.objectContaining({ status: 3 }));
  expect(existsSync(lock)).toBe(false);
  onTestFinished(() => rmSync(lock, { force: true }));
});

test('a value is written whole: no partial file stays', async () => {
  const { writeJson } = await script('support/files.mjs');
  const file = join(temporaryFolder(), 'deep', 'value.json');
  writeJson(file, { a: [1, 2] });
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({ a: [1, 2] });
});
