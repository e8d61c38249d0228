export interface LockHolder {
  readonly pid: number;
  readonly host: string;
}

/**
 * Runs `work` while this process alone holds the lock file, waiting for another holder to finish; the lock of a process
 * that is gone is taken over. `onWait` is called once when waiting begins, with the holder if it can be read; what it
 * throws ends the waiting.
 */
export declare function withLock<T>(
  path: string,
  work: () => Promise<T>,
  options?: {
    readonly onWait?: (holder: LockHolder | undefined) => void;
    readonly pollMs?: number;
    readonly signal?: AbortSignal;
  },
): Promise<T>;
