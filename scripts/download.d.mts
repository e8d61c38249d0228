export interface DownloadProgress {
  /** Bytes of the file that are on disk, those of an earlier call included. */
  readonly received: number;
  /** Bytes of the whole file, when the server or the caller said. */
  readonly total: number | undefined;
  /** Bytes that were already there when this transfer began. */
  readonly resumedFrom: number;
}

export interface DownloadOptions {
  /** An http or https address. */
  readonly url: string;
  /** The file to make; its folder is created. */
  readonly to: string;
  /** Hexadecimal; without it the file is only as good as the connection. */
  readonly sha256?: string | undefined;
  /** Bytes. */
  readonly size?: number | undefined;
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds without a byte after which a connection counts as broken off; 60,000 by default. */
  readonly stallMs?: number | undefined;
  /** Milliseconds before the first new try; doubled for each further one. 500 by default. */
  readonly backoffMs?: number | undefined;
  /** Where the proxy variables are read from; `process.env` by default. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
}

export interface DownloadedFile {
  readonly path: string;
  readonly sha256: string;
  readonly size: number;
  /** The file was already there with the wanted checksum, and nothing was fetched. */
  readonly reused: boolean;
}

export type DownloadErrorCode = 'CHECKSUM' | 'SIZE' | 'HTTP_STATUS' | 'UNREACHABLE' | 'BROKEN_OFF';

export declare class DownloadError extends Error {
  readonly code: DownloadErrorCode;
  readonly url: string | undefined;
}

/**
 * Fetches a file: resumable, atomic, verified. A broken connection is tried again and goes on where it stopped; a file
 * that is not the expected one is deleted.
 *
 * @throws {DownloadError} when the file could not be had, and WriteError where it could not be written; an abort rejects
 *   with the signal's reason.
 */
export declare function download(options: DownloadOptions): Promise<DownloadedFile>;
