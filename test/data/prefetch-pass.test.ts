import { setTimeout as wait } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PrefetchPass, type PrefetchPassOptions } from '../../lib/data/prefetch-pass.js';

const unhandled: unknown[] = [];
const note = (error: unknown): void => void unhandled.push(error);
beforeEach(() => void process.on('unhandledRejection', note));
afterEach(() => {
  process.off('unhandledRejection', note);
  expect(unhandled.splice(0)).toEqual([]);
});

/** Lets everything that is ready go on. */
const settle = (): Promise<void> => wait(5);

/** Images of one byte, their index, that are read when they are let go; those of the bad indices fail. */
class Files {
  readonly started: number[] = [];
  readonly #waiting = new Map<number, () => void>();

  constructor(readonly bad: readonly number[] = []) {}

  readonly read = async (index: number): Promise<Uint8Array> => {
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

const pass = (files: { read: (index: number) => Promise<Uint8Array> }, options: Partial<PrefetchPassOptions> = {}) =>
  new PrefetchPass({
    indicesOf: (batch) => ORDER.subarray(3 * batch, 3 * batch + 3),
    first: 0,
    read: files.read,
    sampleBytes: 1,
    ahead: 1,
    concurrency: 4,
    ...options,
  });

const numbers = (bytes: Uint8Array | undefined): number[] => Array.from(bytes ?? []);

describe('prefetching', () => {
  it('starts images in order, so many at once, up to so many batches beyond the one in use', async () => {
    const files = new Files();
    const prefetching = pass(files);
    await settle();
    expect(files.started, 'nothing before it is asked').toEqual([]);
    const first = prefetching.next();
    expect(files.started).toEqual([7, 3, 9, 1]);
    await files.letGo(9);
    expect(files.started).toEqual([7, 3, 9, 1, 5]);
    await files.letGo(3);
    await files.letGo(7);
    expect(numbers((await first)?.bytes), 'in its order, whatever came first').toEqual([7, 3, 9]);
    await files.letAllGo();
    expect(files.started, 'one batch ahead').toEqual([7, 3, 9, 1, 5, 8]);
    const second = await prefetching.next();
    expect(Array.from(second!.indices)).toEqual([1, 5, 8]);
    expect(files.running, 'the next one is begun when this one is given out').toEqual([2, 6, 4]);
    await files.letAllGo();
    await prefetching.stop();
  });

  it('ends after the last batch, which may be smaller', async () => {
    const prefetching = pass({ read: async (index) => Uint8Array.of(index) }, { first: 2 });
    expect(numbers((await prefetching.next())?.bytes)).toEqual([2, 6, 4]);
    expect(numbers((await prefetching.next())?.bytes)).toEqual([0]);
    expect(await prefetching.next()).toBeNull();
  });

  it.each([
    [0, 1],
    [0, 9],
    [1, 2],
    [5, 1],
    [5, 100],
  ])('%d ahead, %d at once, gives the same and fails at the same image', async (ahead, concurrency) => {
    // The later, the sooner: what is read first is not what comes first.
    const read = async (index: number): Promise<Uint8Array> => {
      await wait(10 - index);
      if (index === 2 || index === 6) throw new Error(`image ${index} is bad`);
      return Uint8Array.of(index);
    };
    const prefetching = pass({ read }, { ahead, concurrency });
    expect(numbers((await prefetching.next())?.bytes)).toEqual([7, 3, 9]);
    expect(numbers((await prefetching.next())?.bytes)).toEqual([1, 5, 8]);
    await expect(prefetching.next()).rejects.toThrow('image 2 is bad');
    await prefetching.stop();
  });

  it('fails at the batch that needs a bad image, not before, and nowhere else', async () => {
    const files = new Files([8]);
    const prefetching = pass(files, { ahead: 3, concurrency: 10 });
    const first = prefetching.next();
    await files.letGo(8);
    await files.letAllGo();
    expect(numbers((await first)?.bytes)).toEqual([7, 3, 9]);
    await expect(prefetching.next()).rejects.toThrow('image 8 is bad');
    await prefetching.stop();
  });

  it('starts nothing after it was stopped, and has stopped when what runs is done', async () => {
    const files = new Files([1]);
    const prefetching = pass(files, { ahead: 3 });
    const first = prefetching.next();
    let idle = false;
    const stopped = prefetching.stop().then(() => {
      idle = true;
    });
    await expect(first).rejects.toMatchObject({ code: 'DATA_CANCELLED' });
    await expect(prefetching.next()).rejects.toMatchObject({ code: 'DATA_CANCELLED' });
    await settle();
    expect(idle).toBe(false);
    await files.letAllGo();
    await stopped;
    expect(files.started).toEqual([7, 3, 9, 1]);
    await prefetching.stop();
  });
});
