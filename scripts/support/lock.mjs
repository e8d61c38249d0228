import { randomUUID } from 'node:crypto';
import { closeSync, fstatSync, mkdirSync, openSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { codeOf, systemReason } from './errors.mjs';
import { asWriteError, isObject, readText } from './files.mjs';

/**
 * Whoever holds a lock. `since` is ISO 8601, by the clock of the holder.
 * @typedef {{ readonly pid: number, readonly host: string, readonly since: string }} LockHolder
 */

/**
 * What a lock file holds: `thread` and `started` tell the thread of the holder, where its system tells them.
 * @typedef {LockHolder & {
 *   readonly pidSpace: string | null, readonly thread: string | null, readonly started: string | null,
 *   readonly token: string
 * }} LockRecord
 */

/**
 * A lock file as it was seen: its holder, where that could be read, and what changes with each heartbeat.
 * @typedef {{ holder: LockRecord | undefined, print: string }} Seen
 */

/**
 * `requireHeld` throws LockLostError where the lock was removed or taken over.
 * @typedef {{ requireHeld(): void }} HeldLock
 */

/**
 * @typedef {object} LockOptions
 * @property {(holder: LockHolder) => void} [onWait] called once, when it is known that the holder lives; what it throws
 *   ends the waiting
 * @property {number} [pollMs]
 * @property {number} [silenceMs] without a heartbeat, after which a holder that cannot be seen counts as gone (default: 15,000)
 * @property {AbortSignal | undefined} [signal]
 */

const heartbeatMs = 2_000;
/** Seven missed heartbeats. A holder that was only held up for so long finds out by `requireHeld`. */
const defaultSilenceMs = 15_000;
/** The time between making a lock file and writing its holder into it, a thousand times over. */
const unreadableMs = 5_000;

/** The lock was removed, or another took it while this process seemed dead (suspended, or cut off from the disk). */
export class LockLostError extends Error {
  code = /** @type {const} */ ('LOCK_LOST');

  /**
   * @param {string} path
   * @param {LockHolder | undefined} holder
   */
  constructor(path, holder) {
    const now = holder === undefined ? 'it was removed' : describeHolder(holder);
    super(`${path}: this process has lost its lock (${now}), so it must not write any more`);
    this.name = 'LockLostError';
  }
}

/**
 * Runs `work(lock)` while this thread alone holds the lock file, waiting for another holder to finish. Throws WriteError
 * where the file cannot be made, and the signal's reason.
 *
 * A holder on this machine is gone when its process or thread is. One that cannot be seen from here (another host that
 * shares the folder, another container) shows by a heartbeat that it lives: gone is whoever is silent for `silenceMs`. This
 * is judged by looking again and again, never by comparing two clocks.
 * @template T
 * @param {string} path
 * @param {(lock: HeldLock) => Promise<T>} work
 * @param {LockOptions} [options]
 * @returns {Promise<T>}
 */
export async function withLock(path, work, options = {}) {
  const lock = await acquire(path, options);
  try {
    return await work(lock);
  } finally {
    lock.release();
  }
}

/**
 * Whoever holds the lock, as far as can be told by looking once: also one that may be gone, but cannot be seen from here.
 * @param {string} path
 * @returns {LockHolder | undefined}
 */
export function holderOf(path) {
  const holder = look(path)?.holder;
  return holder === undefined || stateOnThisMachine(holder, describeThisThread()) === 'gone' ? undefined : holder;
}

/**
 * "process 7 on host a, for 12 min"
 * @param {LockHolder} holder
 */
export function describeHolder({ pid, host, since }) {
  const minutes = Math.floor((Date.now() - Date.parse(since)) / 60_000);
  const age = minutes >= 120 ? `${Math.floor(minutes / 60)} h` : minutes >= 1 ? `${minutes} min` : 'less than a minute';
  return `process ${pid} on host ${host}, for ${age}`;
}

/**
 * @param {string} path
 * @param {LockOptions} options
 */
async function acquire(path, { onWait, pollMs = 200, silenceMs = defaultSilenceMs, signal }) {
  try {
    mkdirSync(dirname(path), { recursive: true });
  } catch (error) {
    throw asWriteError(path, error);
  }
  const holder = describeThisThread();
  const watch = new Watch({ silent: silenceMs / pollMs, unreadable: unreadableMs / pollMs });
  let isAnnounced = false;
  let failedTakeovers = 0;
  for (;;) {
    signal?.throwIfAborted();
    if (createFile(path, JSON.stringify(holder))) return new OwnLock(path, holder.token);
    const seen = look(path);
    if (seen === undefined) continue;
    const state = watch.judge(seen, holder);
    if (state === 'gone') {
      if (takeAway(path, seen)) continue;
      // Another waiter is at it, for a moment; or died there.
      if (++failedTakeovers > unreadableMs / pollMs) rmSync(markerOf(path, seen), { force: true });
    }
    if (state === 'held' && seen.holder !== undefined && !isAnnounced) {
      isAnnounced = true;
      onWait?.(seen.holder);
    }
    await sleep(pollMs, undefined, { signal }).catch(() => signal?.throwIfAborted());
  }
}

/**
 * Without a heartbeat, as where no more threads may be started, the lock is only less well defended.
 * @param {string} path
 * @param {string} token
 */
function startHeartbeat(path, token) {
  try {
    // Without flags and environment of the process, which may be meant for its main program only.
    const heartbeat = new Worker(new URL('./heartbeat.mjs', import.meta.url), {
      workerData: { path, token, intervalMs: heartbeatMs },
      execArgv: [],
      env: {},
    });
    heartbeat.on('error', () => {}).unref();
    return heartbeat;
  } catch {
    return null;
  }
}

class OwnLock {
  #path;
  #token;
  #heartbeat;

  /**
   * @param {string} path
   * @param {string} token
   */
  constructor(path, token) {
    this.#path = path;
    this.#token = token;
    // An error that ends the process still leaves no lock behind; a kill leaves one that others recognise.
    process.on('exit', this.release);
    this.#heartbeat = startHeartbeat(path, token);
  }

  requireHeld() {
    const now = look(this.#path);
    if (now?.holder?.token !== this.#token) throw new LockLostError(this.#path, now?.holder);
  }

  release = () => {
    process.removeListener('exit', this.release);
    this.#heartbeat?.terminate();
    try {
      this.requireHeld();
    } catch {
      return;
    }
    rmSync(this.#path, { force: true });
  };
}

/** What is known of another's lock from looking at it several times. */
class Watch {
  #needed;
  /** @type {Seen | undefined} */
  #seen;
  #unchanged = 0;
  #isBeating = false;

  /** @param {{ silent: number, unreadable: number }} needed looks without a change after which a holder counts as gone */
  constructor(needed) {
    this.#needed = needed;
  }

  /**
   * @param {Seen} seen
   * @param {LockRecord} self
   * @returns {'held' | 'gone' | 'unknown'} so far
   */
  judge(seen, self) {
    const isSameHolder = this.#seen !== undefined && this.#seen.holder?.token === seen.holder?.token;
    const isChanged = this.#seen?.print !== seen.print;
    this.#seen = seen;
    this.#unchanged = isChanged ? 0 : this.#unchanged + 1;
    if (!isSameHolder) this.#isBeating = false;
    else if (isChanged) this.#isBeating = true;
    if (seen.holder === undefined) {
      // Empty or half written: its maker is between creating and writing it, or died there.
      return this.#unchanged >= this.#needed.unreadable ? 'gone' : 'unknown';
    }
    const state = stateOnThisMachine(seen.holder, self);
    if (state !== 'unknown') return state;
    if (this.#unchanged >= this.#needed.silent) return 'gone';
    return this.#isBeating ? 'held' : 'unknown';
  }
}

/**
 * Process and thread, where the system tells (Linux): a worker thread can end while its process lives on.
 * @returns {LockRecord}
 */
function describeThisThread() {
  const [pid, , thread] = readLink('/proc/thread-self')?.split('/') ?? [];
  // A /proc of another PID namespace tells nothing of ours.
  const seen = pid === String(process.pid) && thread !== undefined ? thread : null;
  return {
    pid: process.pid,
    host: hostname(),
    pidSpace: pidSpace(),
    thread: seen,
    started: seen === null ? null : (startOf(process.pid, seen) ?? null),
    since: new Date().toISOString(),
    token: randomUUID(),
  };
}

/** Within it a process id means the same process: this boot of this machine, and the container. Null: not known. */
function pidSpace() {
  if (process.platform !== 'linux') return hostname();
  const [boot, namespace] = [readText('/proc/sys/kernel/random/boot_id').trim(), readLink('/proc/self/ns/pid')];
  return boot === '' || namespace === undefined ? null : `${boot} ${namespace}`;
}

/**
 * @param {LockRecord} holder
 * @param {LockRecord} self
 */
function stateOnThisMachine(holder, self) {
  if (holder.pidSpace === null || holder.pidSpace !== self.pidSpace) return 'unknown';
  const isOurUsers = signalReaches(holder.pid);
  if (isOurUsers === undefined) return 'gone';
  if (holder.started === null || holder.thread === null || self.thread === null) return 'unknown';
  const started = startOf(holder.pid, holder.thread);
  // Processes of other users may be hidden.
  if (started === undefined) return isOurUsers ? 'gone' : 'unknown';
  return started === holder.started ? 'held' : 'gone';
}

/**
 * Undefined: there is no such process; false: it is another user's.
 * @param {number} pid
 */
function signalReaches(pid) {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return codeOf(error) === 'EPERM' ? false : undefined;
  }
}

/**
 * When the thread started, so that a reused id is not taken for the holder; undefined where there is none.
 * @param {number} pid
 * @param {string} thread
 */
function startOf(pid, thread) {
  const stat = readText(`/proc/${pid}/task/${thread}/stat`);
  if (stat === '') return undefined;
  // From field 3 on, after the command's name, which may itself hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // A process that was killed and not yet waited for holds nothing any more.
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}

/**
 * A lock file as it is now; undefined: none.
 * @param {string} path
 * @returns {Seen | undefined}
 */
function look(path) {
  let file;
  try {
    // Opened anew each time: network file systems then ask the server.
    file = openSync(path, 'r');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw asReadError(path, error);
  }
  try {
    const text = readFileSync(file, 'utf8');
    const { ino, mtimeMs } = fstatSync(file);
    return { holder: parseHolder(text), print: `${ino} ${mtimeMs} ${text}` };
  } catch (error) {
    throw asReadError(path, error);
  } finally {
    closeSync(file);
  }
}

/**
 * The system names no path where it refuses to read.
 * @param {string} path
 * @param {unknown} error
 */
function asReadError(path, error) {
  const message = `${path}: expected a lock file, but it cannot be read: ${systemReason(error)}`;
  return Object.assign(new Error(message, { cause: error }), { code: codeOf(error) });
}

/**
 * @param {string} text
 * @returns {LockRecord | undefined}
 */
function parseHolder(text) {
  try {
    /** @type {unknown} */
    const holder = JSON.parse(text);
    return isObject(holder) ? recordOf(holder) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * @param {Record<string, unknown>} holder
 * @returns {LockRecord | undefined}
 */
function recordOf({ pid, host, since, token, ...where }) {
  if (typeof pid !== 'number' || !Number.isInteger(pid) || pid <= 0) return undefined;
  if (typeof host !== 'string' || typeof since !== 'string' || typeof token !== 'string') return undefined;
  const [pidSpace, thread, started] = [where.pidSpace, where.thread, where.started].map(textOrNull);
  return { pid, host, pidSpace, thread, started, since, token };
}

/** @param {unknown} value */
const textOrNull = (value) => (typeof value === 'string' ? value : null);

/**
 * @param {string} path
 * @param {Seen} seen
 */
const markerOf = (path, { holder }) => `${path}.${holder?.token ?? 'unreadable'}.gone`;

/**
 * Removes the lock of a holder that is gone. Two waiters may notice at the same time: only the one that creates the
 * marker named after the dead holder's token may remove it, and only while it is still as it was seen, so that neither
 * can remove the lock that the other has made in the meantime.
 * @param {string} path
 * @param {Seen} seen
 */
function takeAway(path, seen) {
  const marker = markerOf(path, seen);
  if (!createFile(marker, '')) return false;
  try {
    if (look(path)?.print === seen.print) rmSync(path, { force: true });
  } catch (error) {
    throw asWriteError(path, error, 'removed');
  } finally {
    rmSync(marker, { force: true });
  }
  return true;
}

/**
 * Makes a file with this content; false where there is one.
 * @param {string} path
 * @param {string} content
 */
function createFile(path, content) {
  let file;
  try {
    file = openSync(path, 'wx');
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw asWriteError(path, error);
  }
  try {
    writeFileSync(file, content);
  } catch (error) {
    rmSync(path, { force: true });
    throw asWriteError(path, error);
  } finally {
    closeSync(file);
  }
  return true;
}

/** @param {string} path */
function readLink(path) {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
