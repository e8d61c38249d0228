// Regions of open files, of any size. Node takes at most 2^31 - 1 bytes in one call and ends the process for more; Linux reads
// and writes at most 0x7ffff000 at once, and any call may stop early.

/** Bytes of one call. */
const PART_BYTES = 2 ** 30;

/** What `readRegion` needs of a FileHandle. */
export interface ReadableFile {
  read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
}

/** What `writeRegion` needs of a FileHandle. */
export interface WritableFile {
  write(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesWritten: number }>;
}

/** Fills `target` from `position` on. Returns how many bytes came: fewer only where the file ends before them. */
export async function readRegion(
  file: ReadableFile,
  target: ArrayBufferView,
  position: number,
  partBytes = PART_BYTES,
): Promise<number> {
  let done = 0;
  while (done < target.byteLength) {
    const part = partOf(target, done, partBytes);
    const { bytesRead } = await file.read(part, 0, part.length, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/** Writes all bytes of `source` from `position` on. Throws the system's error, such as ENOSPC. */
export async function writeRegion(
  file: WritableFile,
  source: ArrayBufferView,
  position: number,
  partBytes = PART_BYTES,
): Promise<void> {
  let done = 0;
  while (done < source.byteLength) {
    const part = partOf(source, done, partBytes);
    const { bytesWritten } = await file.write(part, 0, part.length, position + done);
    if (bytesWritten === 0) throw new Error(`wrote ${done} of ${source.byteLength} bytes: the file takes no more`);
    done += bytesWritten;
  }
}

/** Also of an array of wider elements, which may have more bytes than a Uint8Array can. */
const partOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView, start: number, partBytes: number): Uint8Array =>
  new Uint8Array(buffer, byteOffset + start, Math.min(partBytes, byteLength - start));
