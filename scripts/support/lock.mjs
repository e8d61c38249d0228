import { randomUUID } from 'node:crypto';
import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readJson, readText } from './files.mjs';

/**
 * Runs `work` while this process alone holds the lock file, waiting for another holder to finish. The lock of a process
 * that is gone (killed, or the machine restarted) is taken over. `onWait(holder)` is called once when waiting begins.
 */
export async function withLock(path, work, { onWait, pollMs = 200, signal } = {}) {
  const release = await acquire(path, { onWait, pollMs, signal });
  try {
    return await work();
  } finally {
    release();
  }
}

async function acquire(path, { onWait, pollMs, signal }) {
  mkdirSync(dirname(path), { recursive: true });
  const mine = { pid: process.pid, host: hostname(), started: startOf(process.pid), token: randomUUID() };
  for (let announced = false; ; ) {
    signal?.throwIfAborted();
    if (tryCreate(path, JSON.stringify(mine))) break;
    const holder = readJson(path);
    if (isGone(path, holder)) {
      takeAway(path, holder);
      continue;
    }
    if (!announced) onWait?.(holder);
    announced = true;
    await sleep(pollMs, undefined, { signal });
  }
  const release = () => {
    process.removeListener('exit', release);
    if (readJson(path)?.token === mine.token) rmSync(path, { force: true });
  };
  // An error that ends the process still leaves no lock behind; a kill leaves one that isGone() recognises.
  process.on('exit', release);
  return release;
}

function tryCreate(path, content) {
  try {
    writeFileSync(path, content, { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

function isGone(path, holder) {
  // Empty or half written: its maker is between creating and writing it, or died there.
  if (holder === undefined) return ageOf(path) > 5_000;
  // Nothing can be said of a process on another host that shares this folder; it is given an hour.
  if (holder.host !== hostname()) return ageOf(path) > 3_600_000;
  return !isAlive(holder.pid) || startOf(holder.pid) !== holder.started;
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** When the process started, where the system tells (Linux), so that a reused process id is not taken for the holder. */
function startOf(pid) {
  const stat = readText(`/proc/${pid}/stat`);
  if (stat === '') return null;
  // From field 3 on, after the command's name, which may itself hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // A process that was killed and not yet waited for holds nothing any more.
  return fields[0] === 'Z' ? 'ended' : fields[19];
}

function ageOf(path) {
  try {
    return Date.now() - statSync(path).mtimeMs;
  } catch {
    return 0;
  }
}

/**
 * Removes the lock of a holder that is gone. Two waiters may notice at the same time: only the one that creates the
 * marker named after the dead holder's token may remove it, and only while it is still that holder's, so that neither
 * can remove the lock that the other has made in the meantime.
 */
function takeAway(path, holder) {
  const marker = `${path}.${holder?.token ?? 'unreadable'}.gone`;
  if (ageOf(marker) > 5_000) rmSync(marker, { force: true });
  if (!tryCreate(marker, '')) return;
  try {
    const current = readJson(path);
    if (current?.token === holder?.token && isGone(path, current)) rmSync(path, { force: true });
  } finally {
    rmSync(marker, { force: true });
  }
}
