// Files of a web server, whole or a part of one.
import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { codeOf, reasonOf } from '#scripts/support/errors.mjs';
import {
  Connections,
  get,
  HttpError,
  isPassingStatus,
  ProxyError,
  proxyFor,
  RedirectError,
} from '#scripts/support/http.mjs';
import { shown } from '../format.js';
import { DataError, throwIfCancelled } from './errors.js';
import { ByteBudget } from './file-bytes.js';

/** With pauses that are doubled from one to the next. */
const TRIES = 8;
/** Of what a server gives once and again, it is not likely to give another the third time. */
const TRIES_OF_CONTENTS = 2;
const FIRST_PAUSE_MS = 250;
/**
 * Of one try, for each part of so many bytes, and how many tries may take too long: whoever waits for an image, most of which are
 * one part, can hardly be interrupted, and a large index may come slowly.
 */
const TIMEOUT_MS = 15_000;
const PART_BYTES = 64 * 1024;
const TRIES_OF_SILENCE = 3;
/** A far server answers after some 20 milliseconds, and a decoder takes thousands of images a second. */
const REQUESTS_AT_ONCE = 128;

export interface FetchOptions {
  readonly signal?: AbortSignal | undefined;
  /** At most; default: 8, which take half a minute. */
  readonly tries?: number | undefined;
  /** Before the second try; doubled for each further one. Default: 250. */
  readonly firstPauseMs?: number | undefined;
  /** Of one try, for each 64 KiB that come. Default: 15,000. */
  readonly timeoutMs?: number | undefined;
}

/** A part of a file, and what is known of both. */
export interface WebPart {
  readonly file: string;
  /** Bytes of the whole file. */
  readonly fileBytes: number;
  readonly offset: number;
  readonly length: number;
  /** CRC-32 of the part. */
  readonly checksum: number;
}

/** What may be over at the next try. */
class PassingError extends Error {
  constructor(
    message: string,
    readonly tries = TRIES,
  ) {
    super(message);
  }
}

const requests = new ByteBudget(REQUESTS_AT_ONCE);
const connections = new Connections();

/**
 * The bytes of a file. After an answer of 408, 429 or 5xx and after a broken connection it is asked for again. Throws `DataError`:
 * DATA_NOT_FOUND for 404 and 410, DATA_DOWNLOAD for what else cannot be had, DATA_CANCELLED on `signal`.
 */
export function fetchFile(url: string, options: FetchOptions = {}): Promise<Uint8Array> {
  return trying({ url, what: url }, options, async (exchange) => {
    const response = await exchange.ask();
    if (response.statusCode !== 200) throw refusal(url, response);
    return exchange.bodyOf(response, Number.POSITIVE_INFINITY);
  });
}

/**
 * The bytes of a part of a file. Throws as `fetchFile` does, and DATA_DOWNLOAD for a server that gives no parts, and where file
 * or part are not what is known of them.
 */
export function fetchPart(part: WebPart, options: FetchOptions = {}): Promise<Uint8Array> {
  const { file, offset, length, checksum } = part;
  const what = `${file} (bytes ${rangeOf(part)})`;
  return trying({ url: file, what }, options, async (exchange) => {
    const response = await exchange.ask({ range: `bytes=${offset}-${offset + length - 1}` });
    if (response.statusCode !== 206) throw refusal(file, response, part);
    try {
      requireRange(part, response.headers['content-range']);
    } catch (error) {
      response.destroy();
      throw error;
    }
    const bytes = await exchange.bodyOf(response, length);
    if (bytes.length !== length) throw new PassingError(`expected ${length} bytes, got ${bytes.length}`);
    const got = crc32(bytes);
    if (got === checksum) return bytes;
    const expected = `expected those that the index tells of (CRC-32 ${hexadecimal(checksum)})`;
    throw new PassingError(`the bytes are others: ${expected}, got CRC-32 ${hexadecimal(got)}`, TRIES_OF_CONTENTS);
  });
}

/** What is read, and how messages call it. */
interface Wanted {
  readonly url: string;
  readonly what: string;
}

async function trying<T>(
  { url, what }: Wanted,
  { signal, tries = TRIES, firstPauseMs = FIRST_PAUSE_MS, timeoutMs = TIMEOUT_MS }: FetchOptions,
  work: (exchange: Exchange) => Promise<T>,
): Promise<T> {
  // Many calls share a signal, which would warn of as many listeners.
  const own = signal === undefined ? undefined : AbortSignal.any([signal]);
  for (let tried = 1; ; tried++) {
    try {
      return await requests.during(1, async () => {
        throwIfCancelled(signal);
        using exchange = new Exchange(url, own, timeoutMs);
        return await exchange.during(work);
      });
    } catch (error) {
      throwIfCancelled(signal);
      if (error instanceof DataError) throw error;
      if (tried >= Math.min(tries, triesOf(error))) {
        const times = tried === 1 ? '1 try' : `${tried} tries`;
        const message = `${what} could not be read in ${times}${throughProxy(url)}: ${reasonOf(error)}`;
        throw new DataError('DATA_DOWNLOAD', message, { cause: error, path: url });
      }
    }
    await sleep(firstPauseMs * 2 ** (tried - 1), undefined, { signal: own }).catch(() => {});
  }
}

function triesOf(error: unknown): number {
  if (error instanceof PassingError) return error.tries;
  if (error instanceof ProxyError || error instanceof RedirectError) return 1;
  if (codeOf(error) === 'ETIMEDOUT') return TRIES_OF_SILENCE;
  // What a proxy refuses now it refuses the next time.
  return error instanceof HttpError && !isPassingStatus(error.status) ? 1 : TRIES;
}

function throughProxy(url: string): string {
  try {
    const proxy = proxyFor(new URL(url));
    return proxy === undefined ? '' : ` through the proxy ${proxy.host}`;
  } catch {
    // The error is of the proxy, and tells.
    return '';
  }
}

/** One try. */
class Exchange implements Disposable {
  readonly #url: string;
  readonly #timeoutMs: number;
  readonly #stop = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #signal: AbortSignal;
  /** What has come. */
  #received: 'no answer' | number = 'no answer';
  /** Whole parts of it, each of which has its own time. */
  #parts = 0;

  constructor(url: string, signal: AbortSignal | undefined, timeoutMs: number) {
    this.#url = url;
    this.#timeoutMs = timeoutMs;
    this.#timer = setTimeout(() => this.#stop.abort(), timeoutMs);
    this.#signal = signal === undefined ? this.#stop.signal : AbortSignal.any([signal, this.#stop.signal]);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  /** Calls `work`; says what was waited for where the time is over. */
  async during<T>(work: (exchange: Exchange) => Promise<T>): Promise<T> {
    try {
      return await work(this);
    } catch (error) {
      if (!this.#stop.signal.aborted) throw error;
      const within = `within ${this.#timeoutMs / 1000} seconds`;
      const received = this.#received;
      throw new PassingError(
        received === 'no answer'
          ? `no answer ${within}`
          : this.#parts === 0
            ? `an answer, and ${received} bytes of it, ${within}`
            : `${received} bytes, and of the last less than ${PART_BYTES} ${within}`,
        TRIES_OF_SILENCE,
      );
    }
  }

  async ask(headers: Record<string, string> = {}): Promise<IncomingMessage> {
    const response = await get(this.#url, {
      // Ranges are of the bytes as they lie there.
      headers: { ...headers, 'accept-encoding': 'identity' },
      ...{ signal: this.#signal, stallMs: this.#timeoutMs, env: process.env, connections },
    });
    this.#received = 0;
    const { 'content-encoding': encoding = 'identity' } = response.headers;
    if (encoding === 'identity') return response;
    response.destroy();
    const expected = `expected the bytes as they lie there, got them in content-encoding ${shown(encoding)}`;
    throw new DataError('DATA_DOWNLOAD', `${this.#url}: ${expected}`, { path: this.#url });
  }

  /** A server that is slow and steady is waited for, one that gives a byte now and then is not. */
  #renewTime(received: number): void {
    const parts = Math.floor(received / PART_BYTES);
    if (parts === this.#parts) return;
    this.#parts = parts;
    this.#timer.refresh();
  }

  /** Of more than `most` bytes a few more than that. */
  async bodyOf(response: IncomingMessage, most: number): Promise<Uint8Array> {
    const chunks: Buffer[] = [];
    let received = 0;
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        chunks.push(chunk);
        this.#received = received += chunk.length;
        this.#renewTime(received);
        // Leaves the loop, which breaks the connection.
        if (received > most) break;
      }
    } catch (error) {
      if (this.#signal.aborted) throw error;
      throw new PassingError(`the connection broke after ${received} bytes: ${reasonOf(error)}`);
    }
    return Buffer.concat(chunks);
  }
}

/** The error for an answer that is none. */
function refusal(url: string, response: IncomingMessage, part?: WebPart): Error {
  const { statusCode: status = 0 } = response;
  // Not read to its end, which may be far.
  response.destroy();
  const failed = (what: string): DataError =>
    new DataError('DATA_DOWNLOAD', `${url}${throughProxy(url)} ${what}`, { path: url });
  if (isPassingStatus(status)) return new PassingError(`the server answered HTTP ${status}`);
  if (status === 404 || status === 410) {
    return new DataError('DATA_NOT_FOUND', `there is no file ${url} (HTTP ${status})`, { path: url });
  }
  if (status === 407) return failed('cannot be read: the proxy asks for a user and a password (HTTP 407)');
  if (part !== undefined && status === 200) {
    return failed(
      'was given whole where a part was asked for (HTTP 200): expected a server that gives ranges (HTTP 206)',
    );
  }
  if (part !== undefined && status === 416) {
    return failed(`has no bytes ${rangeOf(part)} (HTTP 416): expected ${part.fileBytes} bytes, as the index says`);
  }
  return failed(`cannot be read: the server answered HTTP ${status}`);
}

function requireRange(part: WebPart, contentRange: string | undefined): void {
  const { file, fileBytes, offset, length } = part;
  const failed = (what: string): DataError => new DataError('DATA_DOWNLOAD', `${file} ${what}`, { path: file });
  const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(contentRange ?? '') ?? [];
  if (Number(first) !== offset || Number(last) !== offset + length - 1) {
    // Cut where the file ends, which is then not as long as it was.
    throw failed(`was asked for the bytes ${rangeOf(part)}, and the answer is of ${contentRange ?? 'no range'}`);
  }
  if (total === '*' || Number(total) === fileBytes) return;
  throw failed(`has ${total} bytes: expected ${fileBytes}, as the index says`);
}

const rangeOf = ({ offset, length }: WebPart): string => `${offset} to ${offset + length - 1}`;

const hexadecimal = (checksum: number): string => checksum.toString(16).padStart(8, '0');
