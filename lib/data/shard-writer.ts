// A tar archive of images in the layout of WebDataset: of each sample KEY.jpg, and KEY.cls with the label as text.
import { createHash } from 'node:crypto';
import { Header } from 'tar';
import { type WritableFile, writeRegion } from '../files.js';

/** The unit of a tar archive, and the size of a header. */
const BLOCK = 512;

/** Writes an archive from the start of a file. The same samples make the same bytes. */
export class ShardWriter {
  readonly #file: WritableFile;
  readonly #hash = createHash('sha256');
  #end = 0;

  constructor(file: WritableFile) {
    this.#file = file;
  }

  /** Appends a sample; gives where its image begins. */
  async add(key: string, jpeg: Uint8Array, label: number): Promise<number> {
    const offset = this.#end + BLOCK;
    await this.#write(Buffer.concat([...entry(`${key}.jpg`, jpeg), ...entry(`${key}.cls`, Buffer.from(`${label}`))]));
    return offset;
  }

  /** Ends the archive. */
  async finish(): Promise<{ bytes: number; sha256: string }> {
    await this.#write(Buffer.alloc(2 * BLOCK));
    return { bytes: this.#end, sha256: this.#hash.digest('hex') };
  }

  async #write(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes);
    await writeRegion(this.#file, bytes, this.#end);
    this.#end += bytes.length;
  }
}

/** A header, the contents, and zeros up to a whole block. Nothing in it is of the machine or of the time. */
function entry(path: string, contents: Uint8Array): Uint8Array[] {
  const header = Buffer.alloc(BLOCK);
  const mtime = new Date(0);
  new Header({ path, mode: 0o644, uid: 0, gid: 0, size: contents.length, mtime, type: 'File' }).encode(header);
  return [header, contents, Buffer.alloc((BLOCK - (contents.length % BLOCK)) % BLOCK)];
}
