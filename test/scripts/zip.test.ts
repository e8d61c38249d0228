import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, deflateRawSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { fixture, script, temporaryFolder } from './scripts.js';

const { extractZip, listZip, readZipEntry } = await script('support/zip.mjs');

interface HandMade {
  readonly name: string;
  readonly content: string;
  readonly link?: boolean;
  readonly crc?: number;
  readonly size?: number;
  readonly method?: number;
}

/** A zip file put together by hand (PKWARE's APPNOTE, 4.3.7 to 4.3.16), to hold what no writer would write. */
function handMade(entries: readonly HandMade[]): string {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, content, link = false, crc, size, method = 8 } of entries) {
    const raw = Buffer.from(content);
    const packed = deflateRawSync(raw);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(method, 4);
    common.writeUInt32LE(crc ?? crc32(raw), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(size ?? raw.length, 18);
    common.writeUInt16LE(Buffer.byteLength(name), 22);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(link ? (0o120777 << 16) >>> 0 : 0, 6);
    rest.writeUInt32LE(offset, 10);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), common, Buffer.from(name), packed]);
    directory.push(Buffer.from('PK\x01\x02'), Buffer.from([20, 3]), common, rest, Buffer.from(name));
    parts.push(local);
    offset += local.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(offset, 16);
  const path = join(temporaryFolder(), 'hand-made.zip');
  writeFileSync(path, Buffer.concat([...parts, central, end]));
  return path;
}

test('unpacks what Python writes: stored, deflated, executable, linked, zip64', async () => {
  const target = temporaryFolder();
  await extractZip(fixture('python.zip'), target);
  expect(readFileSync(join(target, 'stored.txt'), 'utf8')).toBe('kept as it is\n');
  expect(readFileSync(join(target, 'deep/er/deflated.txt'), 'utf8')).toBe('again and again, '.repeat(1000));
  expect(statSync(join(target, 'bin/program')).mode & 0o111).toBe(0o111);
  expect(statSync(join(target, 'stored.txt')).mode & 0o111).toBe(0);
  expect(readlinkSync(join(target, 'link'))).toBe('deep/er/deflated.txt');
  expect(readFileSync(join(target, 'wide.bin'))).toEqual(
    Buffer.from([...Array(1024).keys()].map((value) => value % 256)),
  );
});

test('unpacks only what is selected, under the name that it is given', async () => {
  const target = temporaryFolder();
  const select = (name: string) => (name === 'stored.txt' ? 'renamed/here.txt' : undefined);
  const { files } = await extractZip(fixture('python.zip'), target, { select });
  expect(files).toBe(1);
  expect(readdirSync(target)).toEqual(['renamed']);
  expect(readFileSync(join(target, 'renamed/here.txt'), 'utf8')).toBe('kept as it is\n');
});

test('lists entries and reads one', () => {
  const names = listZip(fixture('python.zip')).map(({ name }: { name: string }) => name);
  expect(names).toEqual(['stored.txt', 'deep/er/deflated.txt', 'bin/program', 'link', 'wide.bin']);
  expect(readZipEntry(fixture('python.zip'), 'stored.txt').toString()).toBe('kept as it is\n');
  expect(readZipEntry(fixture('python.zip'), 'absent')).toBeUndefined();
});

test.each(['../outside', 'a/../../outside', '/outside', 'c:/outside', 'a\\..\\outside', '..', '.'])(
  'refuses an entry named %s before anything is written',
  async (name) => {
    const parent = temporaryFolder();
    const target = join(parent, 'target');
    mkdirSync(target);
    const archive = handMade([
      { name: 'good', content: 'good' },
      { name, content: 'bad' },
    ]);
    await expect(extractZip(archive, target)).rejects.toMatchObject({ code: 'UNSAFE' });
    expect(readdirSync(parent)).toEqual(['target']);
    expect(readdirSync(target)).toEqual([]);
  },
);

test.each(['../../outside', '/etc/passwd'])('refuses a symbolic link to %s', async (content) => {
  const target = temporaryFolder();
  await expect(extractZip(handMade([{ name: 'a/link', content, link: true }]), target)).rejects.toMatchObject({
    code: 'UNSAFE',
  });
  expect(existsSync(join(target, 'a/link'))).toBe(false);
});

test('a link to a folder cannot carry a later entry outside', async () => {
  const target = temporaryFolder();
  const archive = handMade([
    { name: 'a', content: '..', link: true },
    { name: 'a/file', content: 'bad' },
  ]);
  await expect(extractZip(archive, target)).rejects.toThrow();
});

test.each([10, 200, 600, 1400, 1672])('a file cut after %i of 1673 bytes is refused', async (length) => {
  const cut = join(temporaryFolder(), 'cut.zip');
  writeFileSync(cut, readFileSync(fixture('python.zip')).subarray(0, length));
  await expect(extractZip(cut, temporaryFolder())).rejects.toMatchObject({ code: 'DAMAGED' });
});

test.each([
  ['CRC-32', { crc: 1 }],
  ['size', { size: 3 }],
])('an entry whose %s is wrong is refused by name', async (_what, wrong) => {
  const archive = handMade([{ name: 'entry', content: 'content', ...wrong }]);
  const failure = extractZip(archive, temporaryFolder());
  await expect(failure).rejects.toMatchObject({ code: 'DAMAGED' });
  await expect(failure).rejects.toThrow('entry');
});

test('an unknown compression method is refused by name', async () => {
  const archive = handMade([{ name: 'entry', content: 'content', method: 14 }]);
  await expect(extractZip(archive, temporaryFolder())).rejects.toThrow('entry uses compression method 14');
});

test('a name that stands twice is refused', async () => {
  const archive = handMade([
    { name: 'entry', content: 'one' },
    { name: 'entry', content: 'two' },
  ]);
  await expect(extractZip(archive, temporaryFolder())).rejects.toThrow('EEXIST');
});
