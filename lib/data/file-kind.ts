// What a file is, by its first bytes.
import { closeSync, constants, fstatSync, open, read } from 'node:fs';
import { promisify } from 'node:util';
import { shown } from '../format.js';
import { DataError } from './errors.js';
import { fileSystemError } from './file-errors.js';

/** The formats that are read, and what else a file may be. */
export type FileKind =
  | { readonly name: 'JPEG' | 'PNG'; readonly isRead: true }
  /** `isFormat`: a whole file of another format, not a damaged or missing image. */
  | { readonly name: string; readonly isRead: false; readonly isFormat: boolean };

/** Enough for every signature, and for the comments that may lie before `<svg`. */
const HEAD_BYTES = 4096;

const SIGNATURES: readonly (readonly [bytes: string, name: string, offset?: number])[] = [
  ['GIF87a', 'a GIF image'],
  ['GIF89a', 'a GIF image'],
  ['WEBP', 'a WebP image', 8],
  ['RIFF', 'a RIFF file (audio or video)'],
  ['II*\0', 'a TIFF image'],
  ['MM\0*', 'a TIFF image'],
  ['II+\0', 'a TIFF image'],
  ['MM\0+', 'a TIFF image'],
  ['%PDF-', 'a PDF document'],
  ['8BPS', 'a Photoshop image'],
  ['\0\0\x01\0', 'an icon'],
  ['\0\0\0\x0cjP  ', 'a JPEG 2000 image'],
  ['\xff\x4f\xff\x51', 'a JPEG 2000 image'],
  ['\0\0\0\x0cJXL ', 'a JPEG XL image'],
  ['\xff\x0a', 'a JPEG XL image'],
  ['v/1\x01', 'an OpenEXR image'],
  ['\x8aMNG', 'an MNG image'],
  ['P4\n', 'a PBM image'],
  ['P5\n', 'a PGM image'],
  ['P6\n', 'a PPM image'],
  ['\x1f\x8b', 'gzip-compressed data'],
  ['PK\x03\x04', 'a zip archive'],
  ['ustar', 'a tar archive', 257],
];

/** Brands of the ISO base media format, behind `ftyp`; the others are video. */
const BRANDS: Record<string, string> = {
  ...Object.fromEntries(
    ['heic', 'heix', 'heim', 'heis', 'hevc', 'hevx', 'mif1', 'msf1'].map((b) => [b, 'a HEIF image']),
  ),
  avif: 'an AVIF image',
  avis: 'an AVIF image',
};

export function kindOf(head: Uint8Array): FileKind {
  const bytes = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, HEAD_BYTES)).toString('latin1');
  if (bytes.startsWith('\xff\xd8\xff')) return { name: 'JPEG', isRead: true };
  if (bytes.startsWith('\x89PNG\r\n\x1a\n')) return { name: 'PNG', isRead: true };
  if (bytes === '') return { name: 'empty (0 bytes)', isRead: false, isFormat: false };
  const format = (name: string): FileKind => ({ name, isRead: false, isFormat: true });
  if (bytes.startsWith('ftyp', 4)) return format(BRANDS[bytes.slice(8, 12)] ?? 'a video (MP4 or QuickTime)');
  for (const [signature, name, offset = 0] of SIGNATURES) {
    if (bytes.startsWith(signature, offset)) return format(name);
  }
  // Two letters begin many a text: the header's reserved bytes are zero.
  if (bytes.startsWith('BM') && bytes.startsWith('\0\0\0\0', 6)) return format('a BMP image');
  const otherwise = (name: string): FileKind => ({ name, isRead: false, isFormat: false });
  if (bytes.startsWith('version https://git-lfs.github.com/spec/')) {
    return otherwise('a git-lfs pointer in place of the file (git lfs pull fetches it)');
  }
  if (/<svg[\s>]/i.test(bytes)) return format('an SVG image');
  if (/^\s*<(!doctype html|html|head|body)/i.test(bytes.replace(/^\xef\xbb\xbf/, ''))) return otherwise('an HTML page');
  if (/^\0+$/.test(bytes)) return otherwise('filled with zeros');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: text holds none of them
  return otherwise(/[\0-\x08\x0e-\x1f]/.test(bytes) ? 'of unknown format' : 'text');
}

/** An open file: close its descriptor. */
export interface OpenFile {
  readonly descriptor: number;
  /** Bytes. */
  readonly size: number;
}

const openDescriptor = promisify(open);
const readBytes = promisify(read);

/**
 * Opens a regular file; anything else, such as a named pipe, is refused without waiting for it. Throws `DataError`:
 * DATA_NOT_FOUND, DATA_UNREADABLE, DATA_UNSUPPORTED for what is no file.
 *
 * Gives a descriptor and no FileHandle, whose calls would wait in the queue of Node's pool behind images that are being decoded.
 */
export async function openRegularFile(file: string): Promise<OpenFile> {
  let descriptor: number;
  try {
    descriptor = await openDescriptor(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (error) {
    throw fileSystemError(file, error, 'file');
  }
  const found = fstatSync(descriptor);
  if (found.isFile()) return { descriptor, size: found.size };
  closeSync(descriptor);
  const got = found.isDirectory() ? 'a folder' : 'a device, pipe or socket';
  throw new DataError('DATA_UNSUPPORTED', `${shown(file)} is ${got}: expected a JPEG or PNG file`, { path: file });
}

/** The kind of a file; throws as `openRegularFile` does. */
export async function readFileKind(file: string): Promise<FileKind> {
  const { descriptor } = await openRegularFile(file);
  try {
    const { buffer, bytesRead } = await readBytes(descriptor, Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
    return kindOf(buffer.subarray(0, bytesRead));
  } catch (error) {
    throw fileSystemError(file, error, 'file');
  } finally {
    closeSync(descriptor);
  }
}
