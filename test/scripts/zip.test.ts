import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, deflateRawSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { extractZip, listZip, readZipEntry } from '../../scripts/support/zip.mjs';
import { fixture, temporaryFolder } from './scripts.js';

interface HandMade {
  readonly name: string;
  readonly content: string;
  readonly link?: boolean;
  readonly crc?: number;
  readonly size?: number;
  readonly method?: number;
  readonly encrypted?: boolean;
}

/** A zip file put together by hand (PKWARE's APPNOTE, 4.3.7 to 4.3.16), to hold what no writer would write. */
function handMade(entries: readonly HandMade[]): string {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, content, link = false, crc, size, method = 8, encrypted = false } of entries) {
    const raw = Buffer.from(content);
    const packed = deflateRawSync(raw);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(encrypted ? 1 : 0, 2);
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

test('lists entries and reads one', async () => {
  const names = await listZip(fixture('python.zip'));
  expect(names).toEqual(['stored.txt', 'deep/er/deflated.txt', 'bin/program', 'link', 'wide.bin']);
  expect((await readZipEntry(fixture('python.zip'), 'stored.txt'))?.toString()).toBe('kept as it is\n');
  expect(await readZipEntry(fixture('python.zip'), 'absent')).toBeUndefined();
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

test('an encrypted entry is refused by name', async () => {
  const archive = handMade([{ name: 'entry', content: 'content', encrypted: true }]);
  await expect(extractZip(archive, temporaryFolder())).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: 'entry is encrypted',
  });
});

/** The sample with a zip64 end record and its locator before the end record (APPNOTE 4.3.14 and 4.3.15). */
function withWideEnd(position?: bigint): string {
  const sample = readFileSync(fixture('python.zip'));
  const end = sample.lastIndexOf('PK\x05\x06');
  const record = Buffer.alloc(56);
  record.write('PK\x06\x06', 'latin1');
  record.writeBigUInt64LE(44n, 4);
  for (const at of [24, 32]) record.writeBigUInt64LE(BigInt(sample.readUInt16LE(end + 10)), at);
  record.writeBigUInt64LE(BigInt(sample.readUInt32LE(end + 12)), 40);
  record.writeBigUInt64LE(BigInt(sample.readUInt32LE(end + 16)), 48);
  const locator = Buffer.alloc(20);
  locator.write('PK\x06\x07', 'latin1');
  locator.writeBigUInt64LE(position ?? BigInt(end), 8);
  locator.writeUInt32LE(1, 16);
  const last = Buffer.from(sample.subarray(end)).fill(0xff, 8, 20);
  const path = join(temporaryFolder(), 'wide.zip');
  writeFileSync(path, Buffer.concat([sample.subarray(0, end), record, locator, last]));
  return path;
}

test('an archive of more entries and bytes than the plain end record can count is read', async () => {
  expect(await listZip(withWideEnd())).toEqual(await listZip(fixture('python.zip')));
});

test.each([2n ** 64n - 1n, 10n ** 9n])(
  'a zip64 end record at %i, where there is none, is refused',
  async (position) => {
    await expect(listZip(withWideEnd(position))).rejects.toMatchObject({ code: 'DAMAGED' });
  },
);

test('a large entry is unpacked, and one whose CRC-32 is wrong refused', async () => {
  const content = 'a large one, '.repeat(500_000);
  const target = temporaryFolder();
  await extractZip(handMade([{ name: 'large', content }]), target);
  expect(readFileSync(join(target, 'large'), 'utf8')).toBe(content);
  const wrong = extractZip(handMade([{ name: 'large', content, crc: 1 }]), temporaryFolder());
  await expect(wrong).rejects.toMatchObject({ code: 'DAMAGED', message: expect.stringContaining('CRC-32 00000001') });
});

test('an abort ends the unpacking with its reason', async () => {
  const signal = AbortSignal.abort(new Error('stop'));
  await expect(extractZip(fixture('python.zip'), temporaryFolder(), { signal })).rejects.toThrow('stop');
});

test('a name that stands twice is refused', async () => {
  const archive = handMade([
    { name: 'entry', content: 'one' },
    { name: 'entry', content: 'two' },
  ]);
  await expect(extractZip(archive, temporaryFolder())).rejects.toThrow('EEXIST');
});
