// What a group is joined with.
import { statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { requireOptions } from '../options.js';
import type { GroupRequest } from '../tensor/index.js';
import { invalidArgument } from './errors.js';

/** What carries the collectives: Gloo takes tensors on the CPU, NCCL those on a CUDA device. */
export type Backend = 'gloo' | 'nccl';

/** A store that one process serves to all by TCP. */
export interface TcpStore {
  /** A name or an address that every rank reaches. */
  readonly host: string;
  readonly port: number;
  /** Whether this process serves it; default: rank 0 does. A launcher can do it in the ranks' place. */
  readonly hostsStore?: boolean;
  /** Before the group's keys; default: none. Groups that use one store have one each. */
  readonly prefix?: string;
}

/**
 * A store in a file, of one machine or a shared file system that locks (fcntl). The first rank makes it, and nobody removes it: the next
 * group takes another file, or another prefix.
 */
export interface FileStore {
  readonly file: string;
  /** Before the group's keys; default: none. Groups that use one store have one each. */
  readonly prefix?: string;
}

/** How a rank joins its group. */
export interface JoinOptions {
  /** Default: `gloo`. */
  readonly backend?: Backend;
  /** This process's number, from 0; all below `worldSize` must join. */
  readonly rank: number;
  readonly worldSize: number;
  /** Where the ranks find each other. Needed for more than one. */
  readonly store?: TcpStore | FileStore;
  /** Milliseconds that a rank waits for the others, to join and in each collective; default: 1 800 000, half an hour. */
  readonly timeoutMs?: number;
  /**
   * Whether the ranks tell each other what they are about to do before they do it, so that calls that do not fit are an error of all and
   * change nothing; default: true. It takes one more message around the ranks. Without it Gloo may wait until the time-out, or mix values.
   */
  readonly verify?: boolean;
}

const OPTIONS: readonly (keyof JoinOptions)[] = ['backend', 'rank', 'worldSize', 'store', 'timeoutMs', 'verify'];
const BACKENDS: readonly Backend[] = ['gloo', 'nccl'];
const DEFAULT_TIMEOUT_MS = 30 * 60 * 1000;
/** LibTorch counts in nanoseconds of 64 bits; nobody waits a year. */
const LONGEST_MS = 365 * 24 * 60 * 60 * 1000;
const MOST_RANKS = 65_536;

const refuse = (problem: string): Error => invalidArgument('join', problem);

function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (value === null) return 'null';
  return typeof value === 'object' ? 'an object' : String(value);
}

function requireInteger(name: string, value: unknown, from: number, to: number): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= from && value <= to) return value;
  throw refuse(`expected an integer from ${from} to ${to} for ${name}, got ${shown(value)}`);
}

function requireBoolean(name: string, value: unknown): boolean {
  if (typeof value === 'boolean') return value;
  throw refuse(`expected true or false for ${name}, got ${shown(value)}`);
}

function requireText(name: string, value: unknown): string {
  if (typeof value === 'string' && value !== '' && !value.includes('\0')) return value;
  throw refuse(`expected a text that is not empty for ${name}, got ${shown(value)}`);
}

type Place = Pick<GroupRequest, 'file' | 'host' | 'port' | 'hostsStore' | 'prefix'>;
const NOWHERE: Place = { file: '', host: '', port: 0, hostsStore: false, prefix: '' };

function placeOf(store: TcpStore | FileStore, rank: number): Place {
  const known = ['file', 'host', 'port', 'hostsStore', 'prefix'];
  requireOptions(store, 'store', refuse, known);
  const { file, host, port, hostsStore, prefix = '' } = store as Partial<TcpStore & FileStore>;
  if (typeof prefix !== 'string') throw refuse(`expected a text for store.prefix, got ${shown(prefix)}`);
  if (file !== undefined) {
    if (host !== undefined || port !== undefined || hostsStore !== undefined) {
      throw refuse('expected a file, or a host and a port, for store, got both');
    }
    return { ...NOWHERE, file: fileOf(requireText('store.file', file)), prefix };
  }
  return {
    ...NOWHERE,
    host: requireText('store.host', host),
    port: requireInteger('store.port', port, 1, 65_535),
    hostsStore: hostsStore === undefined ? rank === 0 : requireBoolean('store.hostsStore', hostsStore),
    prefix,
  };
}

/** LibTorch would wait for a folder that is not there. */
function fileOf(path: string): string {
  const file = resolve(path);
  const folder = dirname(file);
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    throw refuse(`expected store.file in a folder that exists, got ${file}`);
  }
  if (statSync(file, { throwIfNoEntry: false })?.isFile() === false) {
    throw refuse(`expected a file for store.file, got ${file}`);
  }
  return file;
}

/** Throws DistributedError (INVALID_ARGUMENT). */
export function groupRequest(options: JoinOptions): GroupRequest {
  requireOptions(options, 'options', refuse, OPTIONS);
  const { backend = 'gloo', timeoutMs = DEFAULT_TIMEOUT_MS, verify = true, store } = options;
  if (!BACKENDS.includes(backend)) {
    throw refuse(`expected one of ${BACKENDS.join(', ')} for backend, got ${shown(backend)}`);
  }
  const worldSize = requireInteger('worldSize', options.worldSize, 1, MOST_RANKS);
  const rank = requireInteger('rank', options.rank, 0, worldSize - 1);
  if (store === undefined && worldSize > 1) {
    throw refuse(`expected a store, where ${worldSize} ranks find each other, got none`);
  }
  return {
    ...{ backend, rank, worldSize, verify: requireBoolean('verify', verify) },
    timeoutMs: requireInteger('timeoutMs', timeoutMs, 1, LONGEST_MS),
    ...(store === undefined ? NOWHERE : placeOf(store, rank)),
  };
}
