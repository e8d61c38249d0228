import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, symlink, truncate } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { create } from 'tar';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { downloadCifar10 } from '../../lib/data/cifar10-download.js';
import { BATCHES, writeBinary } from './cifar10-files.js';

const RECORDS = 3;
const FOLDER = 'cifar-10-batches-bin';

let dir: string;
let dataDir: string;
let served: Buffer;
let requests: number;
let server: Server;
let url: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'layerwise-download-'));
  dataDir = join(dir, 'data');
  requests = 0;
  server = createServer((_request, response) => {
    requests++;
    response.setHeader('content-length', served.length);
    response.end(served);
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/cifar-10-binary.tar.gz`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((closed) => server.close(closed));
  await rm(dir, { recursive: true });
});

async function archiveOf(change: (folder: string) => Promise<void> = async () => {}): Promise<Buffer> {
  const source = join(dir, 'source');
  await writeBinary(join(source, FOLDER), RECORDS);
  await change(join(source, FOLDER));
  const file = join(dir, 'archive.tar.gz');
  await create({ file, gzip: true, cwd: source }, [FOLDER]);
  return readFile(file);
}

/** Writes another path, of the same length, into an entry's header; what a packer refuses to write. */
function renameEntry(archive: Buffer, from: string, to: string): Buffer {
  expect(to).toHaveLength(from.length);
  const bytes = gunzipSync(archive);
  const start = bytes.indexOf(from);
  bytes.write(to, start, 'latin1');
  bytes.fill(' ', start + 148, start + 156);
  const sum = bytes.subarray(start, start + 512).reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, start + 148, 'latin1');
  return gzipSync(bytes);
}

function fetchIt(options: { sha256?: string; signal?: AbortSignal; onProgress?: () => void } = {}): Promise<string> {
  const { sha256 = createHash('sha256').update(served).digest('hex'), ...rest } = options;
  return downloadCifar10({ dataDir, url, archive: { sha256, size: served.length, recordsPerBatch: RECORDS }, ...rest });
}

describe('downloadCifar10', () => {
  it('puts the unpacked folder in place and leaves nothing beside it', async () => {
    served = await archiveOf();
    let reports = 0;
    expect(await fetchIt({ onProgress: () => reports++ })).toBe(join(dataDir, FOLDER));
    expect(reports).toBeGreaterThan(0);
    expect(await readdir(dataDir)).toEqual([FOLDER]);
    for (const batch of BATCHES) {
      expect((await stat(join(dataDir, FOLDER, `${batch}.bin`))).size).toBe(RECORDS * 3073);
    }
  });

  it('fetches nothing when the folder is there and whole', async () => {
    served = await archiveOf();
    await fetchIt();
    await fetchIt();
    expect(requests).toBe(1);
  });

  it('refuses a folder that is there but not whole, and says what to remove', async () => {
    served = await archiveOf();
    await fetchIt();
    await truncate(join(dataDir, FOLDER, 'test_batch.bin'), 7);
    await expect(fetchIt()).rejects.toMatchObject({
      code: 'DATA_CORRUPT',
      message: expect.stringMatching(/test_batch\.bin is truncated.*remove .*cifar-10-batches-bin/),
    });
  });

  it('refuses an archive with another checksum', async () => {
    served = await archiveOf();
    await expect(fetchIt({ sha256: 'a'.repeat(64) })).rejects.toMatchObject({ code: 'CHECKSUM' });
    expect(await readdir(dataDir)).not.toContain(FOLDER);
  });

  it.each([
    ['climbs out', `${FOLDER}/data_batch_1.bin`, `${FOLDER}/../../b/1.bin`],
    ['is absolute', `${FOLDER}/data_batch_1.bin`, '/tmp/layerwise-outside-the-tree.bin'],
    ['is another folder', `${FOLDER}/data_batch_1.bin`, 'cifar-10-batches-bus/data_batch_1.bin'],
  ])('refuses an archive whose entry %s', async (_what, from, to) => {
    served = renameEntry(await archiveOf(), from, to.padEnd(from.length, 'x'));
    await expect(fetchIt()).rejects.toMatchObject({
      code: 'DATA_UNSUPPORTED',
      message: expect.stringContaining(`lies outside ${FOLDER}`),
    });
    expect(await readdir(dataDir)).toEqual(['cifar-10-binary.tar.gz']);
    expect(await readdir(dir)).not.toContain('b');
  });

  it('refuses an archive that holds a link', async () => {
    served = await archiveOf((folder) => symlink('/etc/passwd', join(folder, 'readme.html')));
    await expect(fetchIt()).rejects.toMatchObject({
      code: 'DATA_UNSUPPORTED',
      message: expect.stringMatching(/readme\.html' is a SymbolicLink/),
    });
  });

  it('refuses an archive that is damaged, or lacks a batch, and leaves no folder', async () => {
    const whole = await archiveOf();
    served = whole.subarray(0, whole.length - 100);
    await expect(fetchIt()).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
    expect(await readdir(dataDir)).toEqual(['cifar-10-binary.tar.gz']);
    served = await archiveOf((folder) => rm(join(folder, 'data_batch_3.bin')));
    await expect(fetchIt()).rejects.toThrow(/data_batch_3\.bin is missing/);
    expect(await readdir(dataDir)).toEqual(['cifar-10-binary.tar.gz']);
  });

  it('stops on its signal', async () => {
    served = await archiveOf();
    await expect(fetchIt({ signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
    expect(await readdir(dataDir)).toEqual([]);
    expect(requests).toBe(0);
  });
});
