import { createHash } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf, reasonOf } from './support/errors.mjs';
import { asWriteError, isObject, readJson, WriteError, writeJson } from './support/files.mjs';
import { get, HttpError, isPassingStatus } from './support/http.mjs';
import { withLock } from './support/lock.mjs';

/** @import { IncomingMessage } from 'node:http' */
/** @import { Hash } from 'node:crypto' */
/** @import { Environment } from './support/paths.mjs' */

/**
 * @typedef {object} DownloadProgress
 * @property {number} received bytes of the file that are on disk, those of an earlier call included
 * @property {number | undefined} total bytes of the whole file, when the server or the caller said
 * @property {number} resumedFrom bytes that were already there when this transfer began
 */

/**
 * @typedef {object} DownloadOptions
 * @property {string} url an http or https address
 * @property {string} to the file to make; its folder is created
 * @property {string | undefined} [sha256] hexadecimal; without it the file is only as good as the connection
 * @property {number | undefined} [size] bytes
 * @property {((progress: DownloadProgress) => void) | undefined} [onProgress]
 * @property {AbortSignal | undefined} [signal]
 * @property {number | undefined} [stallMs] milliseconds without a byte after which a connection counts as broken off (default:
 *   60,000)
 * @property {number | undefined} [backoffMs] milliseconds before the first new try; doubled for each further one (default: 500)
 * @property {Environment | undefined} [env] where the proxy variables are read from (default: process.env)
 */

/**
 * `reused`: the file was already there with the wanted checksum, and nothing was fetched.
 * @typedef {{ path: string, sha256: string, size: number, reused: boolean }} DownloadedFile
 */

/** @typedef {'CHECKSUM' | 'SIZE' | 'HTTP_STATUS' | 'UNREACHABLE' | 'BROKEN_OFF'} DownloadErrorCode */

/**
 * A download under way; `part` is where the bytes go until they are whole.
 * @typedef {object} Job
 * @property {string} url
 * @property {string} to
 * @property {string} part
 * @property {string | undefined} sha256
 * @property {number | undefined} size
 * @property {((progress: DownloadProgress) => void) | undefined} onProgress
 * @property {AbortSignal | undefined} signal
 * @property {number} stallMs
 * @property {number} backoffMs
 * @property {Environment} env
 */

/**
 * Where to go on, and the server's validator of the file that the bytes are of, if there is one.
 * @typedef {{ bytes: number, validator?: string }} ResumePoint
 */

const maxFruitlessAttempts = 5;

/**
 * A download that did not give the file. Codes: `CHECKSUM` and `SIZE` (the server has another file; the part is
 * deleted), `HTTP_STATUS`, `UNREACHABLE` (no connection to the host), `BROKEN_OFF` (it failed in the middle; the part
 * is kept and the next call goes on from there).
 */
export class DownloadError extends Error {
  /**
   * @param {DownloadErrorCode} code
   * @param {string} message
   * @param {{ url?: string, cause?: unknown }} [options]
   */
  constructor(code, message, { url, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'DownloadError';
    this.code = code;
    this.url = url;
  }
}

/**
 * Fetches a file: resumable, atomic, verified.
 *
 * The file appears under its name only whole and verified; until then it is `to.part`, from which a later call goes on
 * (HTTP Range) when the server's validator or `sha256` shows that it is a part of the same file. A file already there
 * with the wanted `sha256` is not fetched again (`reused`). Redirects, HTTP(S)_PROXY and NO_PROXY are followed; a
 * connection on which nothing moves for `stallMs` counts as broken off. Broken connections are tried again, five times
 * in a row without a new byte; a host that cannot be reached at all fails at once.
 * @param {DownloadOptions} options
 * @returns {Promise<DownloadedFile>} rejects with DownloadError when the file could not be had, with WriteError where it could
 *   not be written, and with the signal's reason
 */
export async function download(options) {
  const { url, to, sha256, size, onProgress, signal, stallMs = 60_000, backoffMs = 500, env = process.env } = options;
  mkdirSync(dirname(to), { recursive: true });
  const digest = sha256?.toLowerCase();
  const job = { url, to, part: `${to}.part`, sha256: digest, size, onProgress, signal, stallMs, backoffMs, env };
  return withLock(`${to}.lock`, async () => (await existing(job)) ?? (await fetchWhole(job)), { signal });
}

/** @param {Job} job */
async function existing({ to, sha256 }) {
  if (sha256 === undefined || !existsSync(to)) return undefined;
  const hash = createHash('sha256');
  await hashFile(hash, to);
  if (hash.digest('hex') !== sha256) return undefined;
  return { path: to, sha256, size: statSync(to).size, reused: true };
}

/**
 * @param {Hash} hash
 * @param {string} path
 */
async function hashFile(hash, path) {
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk);
}

/** @param {Job} job */
async function fetchWhole(job) {
  for (let fruitless = 0; ; ) {
    const before = partSize(job);
    try {
      return await fetchOnce(job);
    } catch (error) {
      job.signal?.throwIfAborted();
      // A full disk is not the server's fault, and does not become empty by trying again.
      if (error instanceof WriteError) throw error;
      const gained = partSize(job) - before;
      const failure = asDownloadError(error, job, before + gained > 0);
      if (!isWorthRetrying(error, failure)) throw failure;
      fruitless = gained > 0 ? 1 : fruitless + 1;
      if (fruitless >= maxFruitlessAttempts) throw failure;
      const pause = sleep(job.backoffMs * 2 ** (fruitless - 1), undefined, { signal: job.signal });
      await pause.catch(() => job.signal?.throwIfAborted());
    }
  }
}

/** @param {Job} job */
function partSize({ part }) {
  return existsSync(part) ? statSync(part).size : 0;
}

/**
 * @param {Job} job
 * @returns {Promise<DownloadedFile>}
 */
async function fetchOnce(job) {
  const resume = resumePoint(job);
  const response = await get(job.url, { ...job, headers: rangeHeaders(resume) });
  const start = startOf(response, resume, job);
  if (start === undefined) return fetchOnce(job);
  const total = expectedTotal(response, start, job);
  keepValidator(response, total, job);
  const hash = createHash('sha256');
  if (start > 0) await hashFile(hash, job.part);
  const received = await receive(response, { start, total, hash, job });
  if (total !== undefined && received < total) {
    throw new DownloadError('BROKEN_OFF', `the connection closed after ${received} of ${total} bytes`);
  }
  return settle(job, { received, digest: hash.digest('hex'), resumed: start > 0 });
}

/**
 * Where to go on: the bytes that are there and the proof that they belong to the same file, if there is one.
 * @param {Job} job
 * @returns {ResumePoint}
 */
function resumePoint(job) {
  const bytes = partSize(job);
  const note = readJson(`${job.part}.json`);
  if (bytes === 0 || !isObject(note) || note.url !== job.url) return { bytes: 0 };
  if (typeof note.validator === 'string') return { bytes, validator: note.validator };
  return job.sha256 === undefined ? { bytes: 0 } : { bytes };
}

/** @param {ResumePoint} resume */
function rangeHeaders({ bytes, validator }) {
  /**
   * A compressed transfer would make the byte positions of a later Range meaningless.
   * @type {Record<string, string>}
   */
  const headers = { 'accept-encoding': 'identity', 'user-agent': 'layerwise' };
  if (bytes > 0) headers.range = `bytes=${bytes}-`;
  if (bytes > 0 && validator !== undefined) headers['if-range'] = validator;
  return headers;
}

/**
 * The position that the body begins at; undefined when the part had to be thrown away and the request made anew.
 * @param {IncomingMessage} response
 * @param {ResumePoint} resume
 * @param {Job} job
 */
function startOf(response, resume, job) {
  const { statusCode = 0, headers } = response;
  if (statusCode === 200) return 0;
  if (statusCode === 206) {
    const start = Number(/^bytes (\d+)-/.exec(headers['content-range'] ?? '')?.[1]);
    if (start === resume.bytes) return start;
  }
  response.destroy();
  if (resume.bytes > 0 && (statusCode === 206 || statusCode === 416)) {
    discardPart(job);
    return undefined;
  }
  throw new HttpError(statusCode, job.url);
}

/**
 * @param {IncomingMessage} response
 * @param {number} start
 * @param {Job} job
 */
function expectedTotal(response, start, job) {
  const length = response.headers['content-length'];
  const total = length === undefined ? undefined : start + Number(length);
  if (job.size === undefined || total === undefined || total === job.size) return job.size ?? total;
  response.destroy();
  discardPart(job);
  throw new DownloadError('SIZE', `${job.url} is not the expected file: expected ${job.size} bytes, got ${total}`);
}

/**
 * A weak validator does not promise equal bytes (RFC 9110, section 13.1.5), so only a strong one is kept.
 * @param {IncomingMessage} response
 * @param {number | undefined} total
 * @param {Job} job
 */
function keepValidator(response, total, job) {
  const { etag, 'last-modified': modified } = response.headers;
  const validator = etag?.startsWith('"') ? etag : modified;
  writeJson(`${job.part}.json`, { url: job.url, validator, total });
}

/**
 * @param {IncomingMessage} response
 * @param {{ start: number, total: number | undefined, hash: Hash, job: Job }} transfer
 */
async function receive(response, { start, total, hash, job }) {
  let received = start;
  const count = new Transform({
    transform(chunk, _encoding, done) {
      received += chunk.length;
      if (total !== undefined && received > total) {
        discardPart(job);
        return done(new DownloadError('SIZE', `${job.url} is longer than the expected ${total} bytes`));
      }
      hash.update(chunk);
      job.onProgress?.({ received, total, resumedFrom: start });
      done(null, chunk);
    },
  });
  await pipeline(response, count, (chunks) => writeChunks(chunks, job.part, start > 0 ? 'a' : 'w'));
  return received;
}

/**
 * @param {AsyncIterable<Buffer>} chunks
 * @param {string} path
 * @param {'a' | 'w'} flags
 */
async function writeChunks(chunks, path, flags) {
  /** @param {unknown} error */
  const refuse = (error) => {
    throw asWriteError(path, error);
  };
  const file = await open(path, flags).catch(refuse);
  try {
    for await (const chunk of chunks) await file.appendFile(chunk).catch(refuse);
  } finally {
    await file.close().catch(refuse);
  }
}

/**
 * @param {Job} job
 * @param {{ received: number, digest: string, resumed: boolean }} transfer
 */
function settle(job, { received, digest, resumed }) {
  if (job.size !== undefined && received !== job.size) {
    discardPart(job);
    throw new DownloadError('SIZE', `${job.url} is not the expected file: expected ${job.size} bytes, got ${received}`);
  }
  if (job.sha256 !== undefined && digest !== job.sha256) {
    discardPart(job);
    // The bytes from before the break may be what is wrong; from the start there is no such doubt.
    if (resumed) return fetchOnce(job);
    throw new DownloadError(
      'CHECKSUM',
      `${job.url} is not the expected file: expected SHA-256 ${job.sha256}, got ${digest}`,
    );
  }
  renameSync(job.part, job.to);
  rmSync(`${job.part}.json`, { force: true });
  return { path: job.to, sha256: digest, size: received, reused: false };
}

/** @param {Job} job */
function discardPart({ part }) {
  rmSync(part, { force: true });
  rmSync(`${part}.json`, { force: true });
}

/**
 * @param {unknown} error
 * @param {Job} job
 * @param {boolean} begun
 */
function asDownloadError(error, { url }, begun) {
  const options = { url, cause: error };
  if (error instanceof DownloadError) return Object.assign(error, { url });
  if (error instanceof HttpError) return new DownloadError('HTTP_STATUS', error.message, options);
  if (begun) return new DownloadError('BROKEN_OFF', `${url} broke off: ${reasonOf(error)}`, options);
  return new DownloadError('UNREACHABLE', `${url} cannot be reached: ${reasonOf(error)}`, options);
}

/**
 * @param {unknown} error
 * @param {DownloadError} failure
 */
function isWorthRetrying(error, failure) {
  if (failure.code === 'BROKEN_OFF') return true;
  if (error instanceof HttpError) return isPassingStatus(error.status);
  return failure.code === 'UNREACHABLE' && ['ETIMEDOUT', 'ECONNRESET', 'EPIPE'].includes(codeOf(error) ?? '');
}
