import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readDynamicSection } from '../../scripts/support/elf.mjs';
import { digestFiles, writeJson, writeWhole } from '../../scripts/support/files.mjs';
import { Stamps } from '../../scripts/support/stamps.mjs';
import { temporaryFolder } from './scripts.js';

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

test('a value is written whole: no partial file stays', async () => {
  const folder = join(temporaryFolder(), 'deep');
  const file = join(folder, 'value.json');
  writeJson(file, { a: [1, 2] });
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({ a: [1, 2] });
  expect(readdirSync(folder)).toEqual(['value.json']);
});

test('a file that cannot be written keeps what it held, leaves no partial one, and names path and reason', async () => {
  const folder = temporaryFolder();
  const file = join(folder, 'file');
  await writeWhole(file, 'first');
  const half = writeWhole(file, async (handle: FileHandle) => {
    await handle.writeFile('sec');
    throw new TypeError('the content cannot be made');
  });
  await expect(half).rejects.toThrow(TypeError);
  expect([readFileSync(file, 'utf8'), readdirSync(folder)]).toEqual(['first', ['file']]);
  // A file cannot replace a folder.
  mkdirSync(join(folder, 'folder', 'with'), { recursive: true });
  const refused = {
    name: 'WriteError',
    code: 'WRITE_FAILED',
    message: `${join(folder, 'folder')}: could not be written: illegal operation on a directory (EISDIR)`,
  };
  await expect(writeWhole(join(folder, 'folder'), 'x')).rejects.toMatchObject(refused);
  expect(() => writeJson(join(folder, 'folder'), {})).toThrow(expect.objectContaining(refused));
  expect(readdirSync(folder).sort()).toEqual(['file', 'folder']);
});

test('the end of a process in the middle of writing leaves no partial file', () => {
  const folder = temporaryFolder();
  const module = new URL('../../scripts/support/files.mjs', import.meta.url).href;
  const code = `import { writeWhole } from ${JSON.stringify(module)};
    await writeWhole(${JSON.stringify(join(folder, 'file'))}, async (file) => {
      await file.writeFile('half');
      process.exit(3);
    });`;
  const child = () => execFileSync(process.execPath, ['--input-type=module', '-e', code], { stdio: 'pipe' });
  expect(child).toThrow(expect.objectContaining({ status: 3 }));
  expect(readdirSync(folder)).toEqual([]);
});
