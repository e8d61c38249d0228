import { randomUUID } from 'node:crypto';
import { closeSync, fstatSync, mkdirSync, openSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { asWriteError, readText } from './files.mjs';

const heartbeatMs = 2_000;
/** Seven missed heartbeats. A holder that was only held up for so long finds out by `requireHeld`. */
const defaultSilenceMs = 15_000;
/** The time between making a lock file and writing its holder into it, a thousand times over. */
const unreadableMs = 5_000;

/** The lock was removed, or another took it while this process seemed dead (suspended, or cut off from the disk). */
export class LockLostError extends Error {
  constructor(path, holder) {
    const now = holder === undefined ? 'it was removed' : describeHolder(holder);
    super(`${path}: this process has lost its lock (${now}), so it must not write any more`);
    this.name = 'LockLostError';
    this.code = 'LOCK_LOST';
  }
}

/**
 * Runs `work(lock)` while this thread alone holds the lock file, waiting for another holder to finish; `lock.requireHeld()`
 * throws LockLostError where that is no longer so. `onWait(holder)` is called once, when it is known that the holder lives;
 * what it throws ends the waiting.
 *
 * A holder on this machine is gone when its process or thread is. One that cannot be seen from here (another host that
 * shares the folder, another container) shows by a heartbeat that it lives: gone is whoever is silent for `silenceMs`. This
 * is judged by looking again and again, never by comparing two clocks.
 */
export async function withLock(path, work, options = {}) {
  const lock = await acquire(path, options);
  try {
    return await work(lock);
  } finally {
    lock.release();
  }
}

/** "process 7 on host a, for 12 min" */
export function describeHolder({ pid, host, since }) {
  const minutes = Math.floor((Date.now() - Date.parse(since)) / 60_000);
  const age = minutes >= 120 ? `${Math.floor(minutes / 60)} h` : minutes >= 1 ? `${minutes} min` : 'less than a minute';
  return `process ${pid} on host ${host}, for ${age}`;
}

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
    if (createFile(path, JSON.stringify(holder))) return new HeldLock(path, holder);
    const seen = look(path);
    if (seen === undefined) continue;
    const state = watch.judge(seen, holder);
    if (state === 'gone') {
      if (takeAway(path, seen)) continue;
      // Another waiter is at it, for a moment; or died there.
      if (++failedTakeovers > unreadableMs / pollMs) rmSync(markerOf(path, seen), { force: true });
    }
    if (state === 'held' && !isAnnounced) {
      isAnnounced = true;
      onWait?.(seen.holder);
    }
    await sleep(pollMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

class HeldLock {
  #path;
  #token;
  #heartbeat;

  constructor(path, { token }) {
    this.#path = path;
    this.#token = token;
    // An error that ends the process still leaves no lock behind; a kill leaves one that others recognise.
    process.on('exit', this.release);
    // Without flags and environment of the process, which may be meant for its main program only.
    this.#heartbeat = new Worker(new URL('./heartbeat.mjs', import.meta.url), {
      workerData: { path, token, intervalMs: heartbeatMs },
      execArgv: [],
      env: {},
    });
    // Without a heartbeat the lock is only less well defended.
    this.#heartbeat.on('error', () => {}).unref();
  }

  requireHeld() {
    const now = look(this.#path);
    if (now?.holder?.token !== this.#token) throw new LockLostError(this.#path, now?.holder);
  }

  release = () => {
    process.removeListener('exit', this.release);
    this.#heartbeat.terminate();
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
  #seen;
  #unchanged = 0;
  #isBeating = false;

  /** `needed`: looks without a change after which a holder counts as gone. */
  constructor(needed) {
    this.#needed = needed;
  }

  /** 'held', 'gone', or 'unknown' so far. */
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

/** Process and thread, where the system tells (Linux): a worker thread can end while its process lives on. */
function describeThisThread() {
  const [pid, , thread] = readLink('/proc/thread-self')?.split('/') ?? [];
  // A /proc of another PID namespace tells nothing of ours.
  const isSeen = pid === String(process.pid);
  return {
    pid: process.pid,
    host: hostname(),
    pidSpace: pidSpace(),
    thread: isSeen ? thread : null,
    started: isSeen ? startOf(pid, thread) : null,
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

function stateOnThisMachine(holder, self) {
  if (holder.pidSpace === null || holder.pidSpace !== self.pidSpace) return 'unknown';
  const isOurUsers = signalReaches(holder.pid);
  if (isOurUsers === undefined) return 'gone';
  if (!holder.started || self.thread === null) return 'unknown';
  const started = startOf(holder.pid, holder.thread);
  // Processes of other users may be hidden.
  if (started === undefined) return isOurUsers ? 'gone' : 'unknown';
  return started === holder.started ? 'held' : 'gone';
}

/** Undefined: there is no such process; false: it is another user's. */
function signalReaches(pid) {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error.code === 'EPERM' ? false : undefined;
  }
}

/** When the thread started, so that a reused id is not taken for the holder; undefined where there is none. */
function startOf(pid, thread) {
  const stat = readText(`/proc/${pid}/task/${thread}/stat`);
  if (stat === '') return undefined;
  // From field 3 on, after the command's name, which may itself hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // A process that was killed and not yet waited for holds nothing any more.
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}

/** A lock file as it is now: its holder, if it can be read, and what changes with each heartbeat; undefined: none. */
function look(path) {
  let file;
  try {
    // Opened anew each time: network file systems then ask the server.
    file = openSync(path, 'r');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const text = readFileSync(file, 'utf8');
    const { ino, mtimeMs } = fstatSync(file);
    return { holder: parseHolder(text), print: `${ino} ${mtimeMs} ${text}` };
  } finally {
    closeSync(file);
  }
}

function parseHolder(text) {
  try {
    const holder = JSON.parse(text);
    return Number.isInteger(holder.pid) && holder.pid > 0 && typeof holder.token === 'string' ? holder : undefined;
  } catch {
    return undefined;
  }
}

const markerOf = (path, { holder }) => `${path}.${holder?.token ?? 'unreadable'}.gone`;

/**
 * Removes the lock of a holder that is gone. Two waiters may notice at the same time: only the one that creates the
 * marker named after the dead holder's token may remove it, and only while it is still as it was seen, so that neither
 * can remove the lock that the other has made in the meantime.
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

/** Makes a file with this content; false where there is one. */
function createFile(path, content) {
  let file;
  try {
    file = openSync(path, 'wx');
  } catch (error) {
    if (error.code === 'EEXIST') return false;
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

function readLink(path) {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
