import { describe, expect, it } from 'vitest';
import { readRegion, writeRegion } from '../lib/files.js';

/** A file in memory that notes each call and moves at most `most` bytes in it. */
function fileOf(content: Uint8Array, most: number) {
  const calls: { position: number; length: number }[] = [];
  return {
    calls,
    async read(buffer: Uint8Array, offset: number, length: number, position: number) {
      calls.push({ position, length });
      const part = content.subarray(position, position + Math.min(length, most));
      buffer.set(part, offset);
      return { bytesRead: part.length };
    },
    async write(buffer: Uint8Array, offset: number, length: number, position: number) {
      calls.push({ position, length });
      const part = buffer.subarray(offset, offset + Math.min(length, most));
      content.set(part, position);
      return { bytesWritten: part.length };
    },
  };
}

const counted = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i + 1);

describe('readRegion', () => {
  it('asks for no more than a part at once', async () => {
    const file = fileOf(counted(20), 100);
    const bytes = new Uint8Array(10);
    expect(await readRegion(file, bytes, 5, 4)).toBe(10);
    expect(bytes).toEqual(counted(20).subarray(5, 15));
    expect(file.calls).toEqual([
      { position: 5, length: 4 },
      { position: 9, length: 4 },
      { position: 13, length: 2 },
    ]);
  });

  it('goes on after a short read', async () => {
    const bytes = new Uint8Array(10);
    expect(await readRegion(fileOf(counted(20), 3), bytes, 5)).toBe(10);
    expect(bytes).toEqual(counted(20).subarray(5, 15));
  });

  it('says how much came where the file ends early', async () => {
    expect(await readRegion(fileOf(counted(20), 3), new Uint8Array(10), 13)).toBe(7);
    expect(await readRegion(fileOf(counted(20), 3), new Uint8Array(10), 20)).toBe(0);
  });

  it('never asks for what Node or Linux refuse', async () => {
    const asked: number[] = [];
    const huge = {
      async read(_buffer: Uint8Array, _offset: number, length: number, position: number) {
        asked.push(position, length);
        return { bytesRead: length };
      },
    };
    // Pages that nobody touches take no memory.
    const bytes = new Uint8Array(5 * 2 ** 29);
    expect(await readRegion(huge, bytes, 2 ** 40)).toBe(5 * 2 ** 29);
    expect(asked.filter((_, i) => i % 2 === 0)).toEqual([0, 1, 2].map((part) => 2 ** 40 + part * 2 ** 30));
    expect(Math.max(...asked.filter((_, i) => i % 2 === 1))).toBeLessThanOrEqual(0x7ffff000);
  });
});

describe('writeRegion', () => {
  it('asks for no more than a part at once, and goes on after a short write', async () => {
    const content = new Uint8Array(20);
    const file = fileOf(content, 3);
    await writeRegion(file, counted(10), 5, 4);
    expect(content).toEqual(Uint8Array.from([...new Uint8Array(5), ...counted(10), ...new Uint8Array(5)]));
    expect(file.calls.map(({ length }) => length)).toEqual([4, 4, 4, 1]);
  });

  it('does not wait for a file that takes nothing', async () => {
    await expect(writeRegion(fileOf(new Uint8Array(20), 0), counted(10), 0)).rejects.toThrow('wrote 0 of 10 bytes');
  });
});
