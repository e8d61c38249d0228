// The thread that shows that the holder of a lock lives: it touches the lock file, whatever the holder's own thread is
// busy with, and stops when that thread or the process does.
import { readFileSync, utimesSync } from 'node:fs';
import { workerData } from 'node:worker_threads';

/** @type {{ path: string, token: string, intervalMs: number }} */
const { path, token, intervalMs } = workerData;

setInterval(() => {
  try {
    if (JSON.parse(readFileSync(path, 'utf8')).token !== token) return;
    const now = new Date();
    utimesSync(path, now, now);
  } catch {
    // Lost, or a disk that fails for a moment: the holder finds out by itself.
  }
}, intervalMs);
