export interface LockHolder {
  readonly pid: number;
  readonly host: string;
  /** ISO 8601, by the clock of the holder. */
  readonly since: string;
}

export interface HeldLock {
  /** Throws LockLostError where the lock was removed or taken over. */
  requireHeld(): void;
}

/** The lock was removed, or another took it while this process seemed dead (suspended, or cut off from the disk). */
export declare class LockLostError extends Error {
  readonly code: 'LOCK_LOST';
}

/** "process 7 on host a, for 12 min" */
export declare function describeHolder(holder: LockHolder): string;

/**
 * Runs `work` while this thread alone holds the lock file, waiting for another holder to finish; the lock of a holder that
 * is gone is taken over, at once where that can be seen from here, else after `silenceMs` (default: 15,000) without a
 * heartbeat. `onWait` is called once, when it is known that the holder lives; what it throws ends the waiting. Throws
 * WriteError where the file cannot be made, and the signal's reason.
 */
export declare function withLock<T>(
  path: string,
  work: (lock: HeldLock) => Promise<T>,
  options?: {
    readonly onWait?: (holder: LockHolder) => void;
    readonly pollMs?: number;
    readonly silenceMs?: number;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<T>;
