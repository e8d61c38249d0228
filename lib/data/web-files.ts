// Files of a web server, whole or a part of one.
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { reasonOf } from '#scripts/support/errors.mjs';
import { DataError, throwIfCancelled } from './errors.js';
import { ByteBudget } from './file-bytes.js';

/** With pauses that are doubled from one to the next. */
const TRIES = 8;
/** Of what a server gives once and again, it is not likely to give another the third time. */
const TRIES_OF_CONTENTS = 2;
const FIRST_PAUSE_MS = 250;
/** Of one try, and how many of them may take so long: whoever waits for an image can hardly be interrupted. */
const TIMEOUT_MS = 15_000;
const TRIES_OF_SILENCE = 3;
const REQUESTS_AT_ONCE = 32;

export interface FetchOptions {
  readonly signal?: AbortSignal | undefined;
  /** At most; default: 8, which take half a minute. */
  readonly tries?: number | undefined;
  /** Before the second try; doubled for each further one. Default: 250. */
  readonly firstPauseMs?: number | undefined;
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

/**
 * The bytes of a file. After an answer of 408, 429 or 5xx and after a broken connection it is asked for again. Throws `DataError`:
 * DATA_NOT_FOUND for 404 and 410, DATA_DOWNLOAD for what else cannot be had, DATA_CANCELLED on `signal`.
 */
export function fetchFile(url: string, options: FetchOptions = {}): Promise<Uint8Array> {
  return trying(url, options, async (signal) => {
    const response = await ask(url, {}, signal);
    if (response.status !== 200) throw await refusal(url, response);
    return new Uint8Array(await response.arrayBuffer());
  });
}

/**
 * The bytes of a part of a file. Throws as `fetchFile` does, and DATA_DOWNLOAD for a server that gives no parts, and where file
 * or part are not what is known of them.
 */
export function fetchPart(part: WebPart, options: FetchOptions = {}): Promise<Uint8Array> {
  const { file, offset, length, checksum } = part;
  return trying(file, options, async (signal) => {
    const response = await ask(file, { range: `bytes=${offset}-${offset + length - 1}` }, signal);
    if (response.status !== 206) throw await refusal(file, response, part);
    requireRange(part, response.headers.get('content-range'));
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (bytes.length !== length)
      throw new PassingError(`expected ${length} bytes ${rangeOf(part)}, got ${bytes.length}`);
    const got = crc32(bytes);
    if (got === checksum) return bytes;
    const expected = `expected those that the index tells of (CRC-32 ${hexadecimal(checksum)})`;
    throw new PassingError(
      `the bytes ${rangeOf(part)} are others: ${expected}, got CRC-32 ${hexadecimal(got)}`,
      TRIES_OF_CONTENTS,
    );
  });
}

async function trying<T>(
  url: string,
  { signal, tries = TRIES, firstPauseMs = FIRST_PAUSE_MS }: FetchOptions,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  // Many calls share a signal, which would warn of as many listeners.
  const own = signal === undefined ? undefined : AbortSignal.any([signal]);
  for (let tried = 1; ; tried++) {
    try {
      return await requests.during(1, async () => {
        throwIfCancelled(signal);
        const timeout = AbortSignal.timeout(TIMEOUT_MS);
        return work(signal === undefined ? timeout : AbortSignal.any([signal, timeout]));
      });
    } catch (error) {
      throwIfCancelled(signal);
      if (error instanceof DataError) throw error;
      if (tried >= Math.min(tries, triesOf(error))) {
        throw new DataError('DATA_DOWNLOAD', `${url} could not be read in ${tried} tries: ${reasonOf(origin(error))}`, {
          cause: error,
          path: url,
        });
      }
    }
    await sleep(firstPauseMs * 2 ** (tried - 1), undefined, { signal: own }).catch(() => {});
  }
}

function triesOf(error: unknown): number {
  if (error instanceof PassingError) return error.tries;
  return (error as Error).name === 'TimeoutError' ? TRIES_OF_SILENCE : TRIES;
}

/** fetch says no more than that it failed. */
const origin = (error: unknown): unknown =>
  error instanceof TypeError && error.cause !== undefined ? error.cause : error;

const ask = (url: string, headers: Record<string, string>, signal: AbortSignal): Promise<Response> =>
  // Ranges are of the bytes as they lie there.
  fetch(url, { headers: { ...headers, 'accept-encoding': 'identity' }, signal });

/** The error for an answer that is none. */
async function refusal(url: string, response: Response, part?: WebPart): Promise<Error> {
  const { status } = response;
  await response.body?.cancel().catch(() => {});
  const failed = (what: string): DataError => new DataError('DATA_DOWNLOAD', `${url} ${what}`, { path: url });
  if (status >= 500 || status === 408 || status === 429) return new PassingError(`the server answered HTTP ${status}`);
  if (status === 404 || status === 410) {
    return new DataError('DATA_NOT_FOUND', `there is no file ${url} (HTTP ${status})`, { path: url });
  }
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

function requireRange(part: WebPart, contentRange: string | null): void {
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
