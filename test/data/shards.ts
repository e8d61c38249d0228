// Prepared data for tests: photographs of several kinds, a web server of shards, and a reader of tar archives of its own.
import { createHash } from 'node:crypto';
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import sharp from 'sharp';
import { gradient, plain, save, turned } from './images.js';

/** Two classes in train/ and val/. Files with "same" in their name are taken over where the shorter side may be 48. */
export async function savePhotographs(dir: string): Promise<void> {
  const colour = { r: 90, g: 140, b: 30 };
  const grey16 = gradient(70, 90, { step: 2, blue: 40 }).toColourspace('grey16').png();
  const pictures = {
    'train/n01/large.JPEG': gradient(120, 90, { blue: 10 }).jpeg(),
    'train/n01/cmyk.JPEG': plain({ width: 70, height: 80, colour }).toColourspace('cmyk').jpeg(),
    'train/n01/same-48.JPEG': gradient(48, 64, { blue: 20 }).jpeg(),
    'train/n01/same-tiny.JPEG': gradient(20, 30, { blue: 30 }).jpeg(),
    'train/n01/grey16.png': grey16,
    'train/n01/turned.JPEG': await turned(gradient(110, 80, { blue: 60 }), 6),
    'train/n02/grey.JPEG': gradient(90, 70).toColourspace('b-w').jpeg(),
    'train/n02/small-turned.JPEG': await turned(gradient(40, 30, { blue: 80 }), 8),
    'train/n02/alpha.png': gradient(60, 100, { blue: 90 }).ensureAlpha(0.5).png(),
    'train/n02/small.png': gradient(30, 40, { blue: 100 }).png(),
    'train/n02/same-wide.JPEG': gradient(480, 30, { blue: 110 }).jpeg(),
    'val/n01/large.JPEG': gradient(100, 130, { blue: 120 }).jpeg(),
    'val/n02/same-val.JPEG': gradient(44, 40, { blue: 130 }).jpeg(),
    'val/n02/png.JPEG': gradient(64, 64, { blue: 140 }).png(),
  };
  for (const [path, image] of Object.entries(pictures)) await save(dir, path, image);
}

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** The digest of every file of a folder, by name. */
export async function digestsOf(dir: string): Promise<Record<string, string>> {
  const names = (await readdir(dir)).sort();
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, sha256(await readFile(join(dir, name)))] as const)),
  );
}

/** A file of a tar archive. */
export interface TarEntry {
  readonly name: string;
  readonly offset: number;
  readonly contents: Uint8Array;
}

/** The files of an archive, by the letter of POSIX's ustar. */
export function readTar(path: string): TarEntry[] {
  const archive = readFileSync(path);
  const entries: TarEntry[] = [];
  let at = 0;
  for (; archive[at] !== 0; ) {
    const header = archive.subarray(at, at + 512);
    const text = (from: number, length: number): string =>
      header
        .subarray(from, from + length)
        .toString('latin1')
        .replace(/\0.*$/s, '');
    const octal = (from: number, length: number): number => Number.parseInt(text(from, length).trim(), 8);
    const sum = header.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 0x20 : byte), 0);
    if (text(257, 6) !== 'ustar' || octal(148, 8) !== sum || text(156, 1) !== '0')
      throw new Error(`no header at ${at}`);
    const size = octal(124, 12);
    entries.push({ name: text(0, 100), offset: at + 512, contents: archive.subarray(at + 512, at + 512 + size) });
    at += 512 + 512 * Math.ceil(size / 512);
  }
  const end = archive.subarray(at);
  if (end.length < 1024 || end.some((byte) => byte !== 0)) throw new Error('no end of two empty blocks');
  return entries;
}

/** Pixels [height, width, 3] of an image, upright, without its transparency. */
export async function pixelsOf(
  image: string | Uint8Array,
  scaled?: { width: number; height: number },
): Promise<{ data: Buffer; width: number; height: number }> {
  const flat = sharp(image).autoOrient().removeAlpha().toColourspace('srgb');
  const whole = sharp(await flat.png({ compressionLevel: 0 }).toBuffer());
  const small =
    scaled === undefined ? whole : whole.resize(scaled.width, scaled.height, { fit: 'fill', kernel: 'linear' });
  const { data, info } = await small.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height };
}

/** What a server does with a request; true where it has answered. */
export type Fault = (request: IncomingMessage, response: ServerResponse, path: string) => boolean;

export interface ShardServer extends AsyncDisposable {
  readonly url: string;
  /** Paths that were asked for, with their ranges. */
  readonly asked: string[];
  /** What goes wrong from now on. */
  fault: Fault;
}

/** Serves a folder as an object store's gateway does. */
export async function serveShards(dir: string): Promise<ShardServer> {
  const state = { asked: [] as string[], fault: (() => false) as Fault };
  const server = createServer((request, response) => {
    const name = decodeURI(request.url!).replace(/^\/data\//, '');
    state.asked.push([name, request.headers.range ?? []].flat().join(' '));
    if (state.fault(request, response, name)) return;
    const { range } = request.headers;
    const path = join(dir, name);
    const size = statSync(path, { throwIfNoEntry: false })?.size;
    if (size === undefined) return void response.writeHead(404).end();
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '')?.map(Number) ?? [0, 0, size - 1];
    if (first! >= size) return void response.writeHead(416, { 'content-range': `bytes */${size}` }).end();
    const end = Math.min(last!, size - 1);
    response.writeHead(range === undefined ? 200 : 206, {
      'content-length': end - first! + 1,
      ...(range === undefined ? {} : { 'content-range': `bytes ${first}-${end}/${size}` }),
    });
    createReadStream(path, { start: first!, end }).pipe(response);
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  return Object.assign(state, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/data`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  });
}
