// PNG files of every kind, byte by byte: what an encoder would not write, such as colours that are transparent.
import { crc32, deflateSync } from 'node:zlib';

export interface PngKind {
  readonly bitDepth: 8 | 16;
  /** As in the file: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha. */
  readonly colourType: 0 | 2 | 3 | 4 | 6;
  /** Chunks between header and data, such as PLTE and tRNS. */
  readonly chunks?: readonly (readonly [type: string, data: readonly number[]])[];
}

/** A PNG of width x height whose pixels have the given samples, each in as many bytes as the bit depth needs. */
export function png(
  width: number,
  height: number,
  { bitDepth, colourType, chunks = [] }: PngKind,
  samplesAt: (x: number, y: number) => readonly number[],
): Buffer {
  const rows: number[] = [];
  for (let y = 0; y < height; y++) {
    rows.push(0); // No filter.
    for (let x = 0; x < width; x++) {
      for (const sample of samplesAt(x, y)) rows.push(...(bitDepth === 16 ? [sample >> 8, sample & 255] : [sample]));
    }
  }
  return pngOf(width, height, { bitDepth, colourType, chunks }, deflateSync(Buffer.from(rows)));
}

/** The same of compressed rows, which may be anything. */
export function pngOf(
  width: number,
  height: number,
  { bitDepth, colourType, chunks = [] }: PngKind,
  rows: Uint8Array,
): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([bitDepth, colourType, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', header),
    ...chunks.map(([type, data]) => chunk(type, Buffer.from(data))),
    chunk('IDAT', rows),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

function chunk(type: string, data: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length, 0);
  out.set(body, 4);
  out.writeUInt32BE(crc32(body), body.length + 4);
  return out;
}
