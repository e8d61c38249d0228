// Full disks, made of a small file system in memory: at whatever moment it is full, a command ends in one line that names
// the path, nothing is locked or in the way, and with room again it comes to its end.
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { download } from '../../scripts/download.mjs';
import { layerwise, TINY, temporaryFolder } from '../cli/cli.js';

const at = temporaryFolder();

/** A file system of so many bytes, and the way to make it larger. */
function smallDisk(bytes: number): { path: string; enlarge: () => void } {
  const path = mkdtempSync(join(tmpdir(), 'layerwise-disk-'));
  const mount = (...options: string[]) =>
    execFileSync('mount', ['-t', 'tmpfs', ...options, 'tmpfs', path], { stdio: 'pipe' });
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  mount('-o', `size=${bytes}`);
  onTestFinished(() => void execFileSync('umount', ['--lazy', path]));
  return { path, enlarge: () => mount('-o', 'remount,size=100m') };
}

function mayMount(): boolean {
  const path = mkdtempSync(join(tmpdir(), 'layerwise-disk-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'tmpfs', path], { stdio: 'pipe' });
    execFileSync('umount', [path]);
    return true;
  } catch (error) {
    console.log(`skipped: full disks (${(error as Error).message.split('\n')[0]})`);
    return false;
  } finally {
    rmSync(path, { recursive: true, force: true });
  }
}

const PAGE = 4096;
const filesUnder = (folder: string): string[] =>
  existsSync(folder) ? readdirSync(folder, { recursive: true }).map(String) : [];
const bytesUnder = (folder: string): number =>
  filesUnder(folder).reduce((sum, name) => sum + Math.ceil(statSync(join(folder, name)).size / PAGE) * PAGE, 0);

/** The command fails for want of room in one line, about a path on the disk, and leaves neither a lock nor a partial file. */
async function failsForRoom(args: readonly string[], disk: string): Promise<boolean> {
  const { code, stdout, stderr } = await layerwise(args);
  if (code === 0) return false;
  expect([code, stderr]).toEqual([1, expect.stringMatching(/^layerwise: [^\n]*no space left on device[^\n]*\n$/)]);
  expect(stderr).toContain(disk);
  expect(stdout).not.toContain('    at ');
  for (const name of filesUnder(disk)) expect(name).not.toMatch(/run\.lock|\.partial$/);
  return true;
}

describe.runIf(mayMount())('on a disk that is full', () => {
  const whole = at('whole');
  beforeAll(async () => {
    const flags = ['--preset', 'simcnn-k1', '--dataset', 'shapes', '--layers', '4', '--width', '4', '--aux-width', '4'];
    expect(await layerwise(['train', ...TINY, ...flags, '--out', whole])).toMatchObject({ code: 0 });
  });

  it('when training begins: not even the lock can be written', async () => {
    const disk = smallDisk(PAGE);
    writeFileSync(join(disk.path, 'full'), 'x'.repeat(PAGE));
    const train = ['train', ...TINY, '--out', join(disk.path, 'run')];
    expect(await failsForRoom(train, disk.path)).toBe(true);
    disk.enlarge();
    expect(await layerwise(train)).toMatchObject({ code: 0, stderr: '' });
  });

  it('at any moment of a training, which then goes on', async () => {
    const flags = ['train', ...TINY, '--width', '1', '--json'];
    await layerwise([...flags, '--out', at('measured')]);
    // At its end a run holds its checkpoint and its networks; the rest is on top.
    const most = 3 * bytesUnder(at('measured'));
    const failed: number[] = [];
    for (let bytes = PAGE; bytes < most; bytes += Math.max(PAGE, Math.ceil(most / 8 / PAGE) * PAGE)) {
      const disk = smallDisk(bytes);
      const out = join(disk.path, 'run');
      if (!(await failsForRoom([...flags, '--out', out], disk.path))) break;
      failed.push(bytes);
      disk.enlarge();
      const again = existsSync(join(out, 'config.json')) ? ['train', '--resume', out] : [...flags, '--out', out];
      expect(await layerwise(again)).toMatchObject({ code: 0 });
      expect(existsSync(join(out, 'report.html'))).toBe(true);
    }
    expect(failed.length).toBeGreaterThanOrEqual(2);
  }, 300_000);

  it('while kept features are written to it', async () => {
    // Each layer's features of an image take at least a row of 4 bytes a channel and pixel: far more than there is.
    const disk = smallDisk(2 ** 20);
    const flags = ['train', ...TINY, '--views', '1', '--cache', 'device=0,host=0,disk=1', '--train-limit', '2000'];
    const out = join(disk.path, 'run');
    expect(await failsForRoom([...flags, '--out', out], disk.path)).toBe(true);
    disk.enlarge();
    expect(await layerwise(['train', '--resume', out, '--cache', 'none'])).toMatchObject({ code: 0 });
  });

  it.each([
    ['export', (disk: string) => ['export', '--run', whole, '--to', join(disk, 'model.safetensors')]],
    ['compress', (disk: string) => ['compress', '--run', whole, '--filters', '1', '--out', join(disk, 'smaller')]],
    ['report', (disk: string) => ['report', '--run', join(disk, 'run')]],
  ])(
    '%s, which the same command then does',
    async (name, argsFor) => {
      const needed = bytesUnder(whole);
      let failures = 0;
      for (const share of [0, 0.1, 0.6]) {
        const disk = smallDisk(name === 'report' ? 100 * 2 ** 20 : PAGE + Math.ceil(share * needed));
        if (name === 'report') {
          mkdirSync(join(disk.path, 'run'));
          for (const file of ['config.json', 'metrics.jsonl', 'result.json']) {
            execFileSync('cp', [join(whole, file), join(disk.path, 'run')]);
          }
          const room = Math.ceil(share * statSync(join(whole, 'report.html')).size);
          execFileSync('mount', ['-o', `remount,size=${bytesUnder(disk.path) + room}`, disk.path]);
        }
        if (!(await failsForRoom(argsFor(disk.path), disk.path))) break;
        failures++;
        disk.enlarge();
        expect(await layerwise(argsFor(disk.path))).toMatchObject({ code: 0, stderr: '' });
      }
      expect(failures).toBeGreaterThan(0);
    },
    120_000,
  );

  it('import, which the same command then does', async () => {
    const weights = at('vgg.safetensors');
    const source = at('vgg');
    const flags = ['train', ...TINY, '--preset', 'vgg11-end-to-end', '--layers', '8', '--width', '1', '--out', source];
    expect(await layerwise(flags)).toMatchObject({ code: 0 });
    expect(await layerwise(['export', '--run', source, '--to', weights])).toMatchObject({ code: 0 });
    let failures = 0;
    for (const share of [0, 0.2, 0.9]) {
      const disk = smallDisk(2 * PAGE + Math.ceil(share * statSync(weights).size));
      const args = [
        'import',
        '--from',
        weights,
        '--model',
        'vgg11',
        '--image-size',
        '32',
        '--out',
        join(disk.path, 'run'),
      ];
      if (!(await failsForRoom(args, disk.path))) break;
      failures++;
      disk.enlarge();
      expect(await layerwise(args)).toMatchObject({ code: 0, stderr: '' });
    }
    expect(failures).toBe(3);
  }, 120_000);

  it('a download says so at once, and goes on from what it has', async () => {
    const content = Buffer.alloc(10 * PAGE, 'layerwise');
    let requests = 0;
    const server = createServer((request, response) => {
      requests++;
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      response.writeHead(from > 0 ? 206 : 200, {
        etag: '"1"',
        'content-range': `bytes ${from}-${content.length - 1}/${content.length}`,
      });
      response.end(content.subarray(from));
    }).listen(0);
    onTestFinished(() => void server.close());
    const disk = smallDisk(6 * PAGE);
    const to = join(disk.path, 'file');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/file`;
    await expect(download({ url, to, env: {} })).rejects.toMatchObject({
      code: 'WRITE_FAILED',
      message: `${to}.part: could not be written: no space left on device (ENOSPC)`,
    });
    expect([requests, readdirSync(disk.path).sort()]).toEqual([1, ['file.part', 'file.part.json']]);
    disk.enlarge();
    await download({ url, to, env: {} });
    expect(readFileSync(to).equals(content)).toBe(true);
  });
});
