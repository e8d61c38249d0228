import { setTimeout as wait } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DecodingPass, type DecodingPassOptions } from '../../lib/data/decoding-pass.js';

const unhandled: unknown[] = [];
const note = (error: unknown): void => void unhandled.push(error);
beforeEach(() => void process.on('unhandledRejection', note));
afterEach(() => {
  process.off('unhandledRejection', note);
  expect(unhandled.splice(0)).toEqual([]);
});

/** Lets everything that is ready go on. */
const settle = (): Promise<void> => wait(5);

/** Images of one byte, their index, that are decoded when they are let go; of the indices that are not told to be bad. */
class Files {
  readonly started: number[] = [];
  readonly #waiting = new Map<number, () => void>();

  constructor(readonly bad: readonly number[] = []) {}

  readonly decode = async (index: number): Promise<Uint8Array> => {
    this.started.push(index);
    await new Promise<void>((go) => this.#waiting.set(index, go));
    if (this.bad.includes(index)) throw new Error(`image ${index} is bad`);
    return Uint8Array.of(index);
  };

  get running(): number[] {
    return [...this.#waiting.keys()];
  }

  async letGo(index: number): Promise<void> {
    this.#waiting.get(index)!();
    this.#waiting.delete(index);
    await settle();
  }

  async letAllGo(): Promise<void> {
    while (this.#waiting.size > 0) await this.letGo(this.running[0]!);
  }
}

const ORDER = Int32Array.of(7, 3, 9, 1, 5, 8, 2, 6, 4, 0);

const pass = (files: { decode: (index: number) => Promise<Uint8Array> }, options: Partial<DecodingPassOptions> = {}) =>
  new DecodingPass({
    indicesOf: (batch) => ORDER.subarray(3 * batch, 3 * batch + 3),
    first: 0,
    decode: files.decode,
    imageLength: 1,
    ahead: 1,
    concurrency: 4,
    ...options,
  });

const numbers = (bytes: Uint8Array | undefined): number[] => Array.from(bytes ?? []);

describe('decoding ahead', () => {
  it('starts images in order, so many at once, up to so many batches beyond the one in use', async () => {
    const files = new Files();
    const decoding = pass(files);
    await settle();
    expect(files.started, 'nothing before it is asked').toEqual([]);
    const first = decoding.next();
    expect(files.started).toEqual([7, 3, 9, 1]);
    await files.letGo(9);
    expect(files.started).toEqual([7, 3, 9, 1, 5]);
    await files.letGo(3);
    await files.letGo(7);
    expect(numbers((await first)?.pixels), 'in its order, whatever came first').toEqual([7, 3, 9]);
    await files.letAllGo();
    expect(files.started, 'one batch ahead').toEqual([7, 3, 9, 1, 5, 8]);
    const second = await decoding.next();
    expect(Array.from(second!.indices)).toEqual([1, 5, 8]);
    expect(files.running, 'the next one is begun when this one is given out').toEqual([2, 6, 4]);
    await files.letAllGo();
    await decoding.stop();
  });

  it('ends after the last batch, which may be smaller', async () => {
    const decoding = pass({ decode: async (index) => Uint8Array.of(index) }, { first: 2 });
    expect(numbers((await decoding.next())?.pixels)).toEqual([2, 6, 4]);
    expect(numbers((await decoding.next())?.pixels)).toEqual([0]);
    expect(await decoding.next()).toBeNull();
  });

  it.each([
    [0, 1],
    [0, 9],
    [1, 2],
    [5, 1],
    [5, 100],
  ])('%d ahead, %d at once, gives the same and fails at the same image', async (ahead, concurrency) => {
    // The later, the sooner: what is decoded first is not what comes first.
    const decode = async (index: number): Promise<Uint8Array> => {
      await wait(10 - index);
      if (index === 2 || index === 6) throw new Error(`image ${index} is bad`);
      return Uint8Array.of(index);
    };
    const decoding = pass({ decode }, { ahead, concurrency });
    expect(numbers((await decoding.next())?.pixels)).toEqual([7, 3, 9]);
    expect(numbers((await decoding.next())?.pixels)).toEqual([1, 5, 8]);
    await expect(decoding.next()).rejects.toThrow('image 2 is bad');
    await decoding.stop();
  });

  it('fails at the batch that needs a bad image, not before, and nowhere else', async () => {
    const files = new Files([8]);
    const decoding = pass(files, { ahead: 3, concurrency: 10 });
    const first = decoding.next();
    await files.letGo(8);
    await files.letAllGo();
    expect(numbers((await first)?.pixels)).toEqual([7, 3, 9]);
    await expect(decoding.next()).rejects.toThrow('image 8 is bad');
    await decoding.stop();
  });

  it('starts nothing after it was stopped, and has stopped when what runs is done', async () => {
    const files = new Files([1]);
    const decoding = pass(files, { ahead: 3 });
    const first = decoding.next();
    let idle = false;
    const stopped = decoding.stop().then(() => {
      idle = true;
    });
    await expect(first).rejects.toMatchObject({ code: 'DATA_CANCELLED' });
    await expect(decoding.next()).rejects.toMatchObject({ code: 'DATA_CANCELLED' });
    await settle();
    expect(idle).toBe(false);
    await files.letAllGo();
    await stopped;
    expect(files.started).toEqual([7, 3, 9, 1]);
    await decoding.stop();
  });
});
