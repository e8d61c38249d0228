import { LayerwiseError } from '../errors.js';

/**
 * Why ranks do not work together:
 * - INVALID_ARGUMENT: an option is of the wrong kind or out of range, or options contradict each other;
 * - BACKEND_UNAVAILABLE: this build or machine has not what carries the collectives;
 * - STORE_UNAVAILABLE: the store cannot be served, reached or written;
 * - RANK_TAKEN: two processes have the same rank, or the store is that of an earlier group;
 * - TIMEOUT: others did not come in time; `missing` names them where it is known;
 * - CONNECTION_LOST: a rank has ended, or its machine cannot be reached any more;
 * - MISMATCH: the ranks call different things, or with other shapes or dtypes; after a mismatch of collectives the group goes on;
 * - BACKEND_FAILED: anything else that Gloo or NCCL refuses;
 * - RANK_FAILED: another rank failed at work of its own that the others wait for; the message has its words;
 * - GROUP_FAILED: an earlier operation failed, and the group's connections with it; `cause` is that failure;
 * - GROUP_LEFT: this rank has left the group.
 */
export type DistributedErrorCode =
  | 'INVALID_ARGUMENT'
  | 'BACKEND_UNAVAILABLE'
  | 'STORE_UNAVAILABLE'
  | 'RANK_TAKEN'
  | 'TIMEOUT'
  | 'CONNECTION_LOST'
  | 'MISMATCH'
  | 'BACKEND_FAILED'
  | 'RANK_FAILED'
  | 'GROUP_FAILED'
  | 'GROUP_LEFT';

/** Ranks do not work together: who says it, in which operation, and who is missing. */
export class DistributedError extends LayerwiseError {
  override readonly name = 'DistributedError';
  readonly code: DistributedErrorCode;
  /** Of this process; null where it is not known. */
  readonly rank: number | null;
  readonly worldSize: number | null;
  /** In words, with shapes and dtypes: `allReduce of float32[2, 3] (mean)`. */
  readonly operation: string;
  /** What went wrong, without the rank, the operation and those that are missing. */
  readonly problem: string;
  /** Ranks that did not take part, as far as it is known. */
  readonly missing: readonly number[];

  constructor(details: {
    code: DistributedErrorCode;
    operation: string;
    problem: string;
    rank?: number | null;
    worldSize?: number | null;
    missing?: readonly number[];
    cause?: unknown;
  }) {
    const { code, operation, problem, rank = null, worldSize = null, missing = [], cause } = details;
    const who = rank === null ? '' : `rank ${rank}${worldSize === null ? '' : ` of ${worldSize}`}: `;
    super(`${who}${operation}: ${problem}${withoutThem(missing)}`, cause === undefined ? undefined : { cause });
    this.code = code;
    this.rank = rank;
    this.worldSize = worldSize;
    this.operation = operation;
    this.problem = problem;
    this.missing = missing;
  }
}

/** Ranks that an error names, at most. */
const MOST_NAMED = 16;

function withoutThem(missing: readonly number[]): string {
  if (missing.length === 0) return '';
  const named = missing.slice(0, MOST_NAMED).join(', ');
  const more = missing.length > MOST_NAMED ? ` and ${missing.length - MOST_NAMED} more` : '';
  return `; missing: ${missing.length === 1 ? 'rank' : 'ranks'} ${named}${more}`;
}

export const invalidArgument = (operation: string, problem: string): DistributedError =>
  new DistributedError({ code: 'INVALID_ARGUMENT', operation, problem });
