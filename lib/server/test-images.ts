import type { Worker } from 'node:worker_threads';
import { fromSent, type SentError, startThread } from '../service/index.js';
import { RequestError } from './errors.js';
import type { TestImage } from './schemas.js';
import type { FinishedRun } from './training-runs.js';

/** Test images of a run, spread over the whole part. */
export interface TestImages {
  readonly images: readonly TestImage[];
  /** Of each image, PNG. */
  readonly pictures: readonly Uint8Array[];
}

export interface TestImagesRequest {
  readonly runDirectory: string;
  readonly count: number;
}

export type FromTestImagesWorker =
  | { readonly type: 'done'; readonly images: TestImages }
  | { readonly type: 'failed'; readonly error: SentError };

interface KeptImages {
  /** Of the run that they are of. */
  readonly startedAt: string;
  readonly images: Promise<TestImages>;
}

/** Looked at in a thread of their own, and kept for the runs that were asked for last. */
export class TestImageCache implements AsyncDisposable {
  /** By run directory; those that were asked for last come last. */
  readonly #kept = new Map<string, KeptImages>();
  /** One run after another: each takes memory for a network and a test part. */
  #last: Promise<unknown> = Promise.resolve();
  readonly #closing = new AbortController();

  /** Rejects with RequestError (409) where the run's images cannot be read any more. */
  of({ directory, startedAt }: FinishedRun): Promise<TestImages> {
    const kept = this.#kept.get(directory);
    const images = kept?.startedAt === startedAt ? kept.images : this.#look(directory);
    this.#kept.delete(directory);
    this.#kept.set(directory, { startedAt, images });
    for (const oldest of [...this.#kept.keys()].slice(0, -MOST_KEPT)) this.#kept.delete(oldest);
    return images;
  }

  /** Looks at no more images; resolves when nothing of the threads is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#last;
  }

  #look(runDirectory: string): Promise<TestImages> {
    const images = this.#last.then(() => lookedAt({ runDirectory, count: COUNT }, this.#closing.signal));
    this.#last = images.catch(() => {
      if (this.#kept.get(runDirectory)?.images === images) this.#kept.delete(runDirectory);
    });
    return images;
  }
}

const COUNT = 48;
const MOST_KEPT = 8;

async function lookedAt(request: TestImagesRequest, signal: AbortSignal): Promise<TestImages> {
  if (signal.aborted) throw closing();
  const worker = startThread(new URL('./test-images-worker.js', import.meta.url), request);
  const end = (): void => void worker.terminate();
  signal.addEventListener('abort', end);
  try {
    const told = await toldBy(worker);
    if (told?.type === 'done') return told.images;
    if (signal.aborted) throw closing();
    const cause = told === null ? new Error('the thread that looked at them ended') : fromSent(told.error);
    throw new RequestError(409, 'TEST_IMAGES', 'the test images of the run cannot be read', { cause });
  } finally {
    signal.removeEventListener('abort', end);
  }
}

/** What a thread has told when it has ended; null where it told nothing. */
function toldBy(worker: Worker): Promise<FromTestImagesWorker | null> {
  return new Promise((resolve, reject) => {
    let told: FromTestImagesWorker | null = null;
    worker.on('message', (message: FromTestImagesWorker) => {
      told = message;
    });
    worker.on('error', reject);
    worker.on('exit', () => resolve(told));
  });
}

const closing = (): RequestError => new RequestError(503, 'CLOSING', 'the service is being closed');
