// What a server is asked for, checked.
import { resolve } from 'node:path';
import { usableProcessors } from '#scripts/support/limits.mjs';
import { requireOptions } from '../options.js';
import { shown } from '../schema.js';
import { LONGEST_DEADLINE_MS } from '../service/index.js';
import { ServerError } from './errors.js';

/** What a training service is made with. */
export interface ServiceOptions {
  /** The folder of the runs; default: `runs`. */
  readonly runs?: string;
  /** The folder that clients may name data in; default: none, so only data sets without files can be trained on. */
  readonly dataRoot?: string;
  /** Trainings at once; default: 1. */
  readonly concurrency?: number;
  /** Threads of all trainings together; default: as many as this process may use. */
  readonly threads?: number;
  /** Trainings that wait for their turn, at most; default: 100. */
  readonly maxQueued?: number;
  /** Whether runs that a crash of the process interrupted go on by themselves; default: false, they are listed as interrupted. */
  readonly resumeInterrupted?: boolean;
  /** Bytes of an uploaded image, at most; default: 16 MiB. */
  readonly maxUploadBytes?: number;
  /** Width times height of an uploaded image, at most; default: 40,000,000. */
  readonly maxPixels?: number;
  /** Finished runs that are kept open to classify, at most; default: 2. */
  readonly maxPredictors?: number;
  /** Requests of one address a minute, at most; default: 600. */
  readonly requestsPerMinute?: number;
  /** Milliseconds in which trainings may write their checkpoints when the service is closed; default: 20,000. */
  readonly deadlineMs?: number;
  /** Clients must send it as `Authorization: Bearer TOKEN`; default: none is asked for. */
  readonly token?: string;
}

/** The options, each with its value. */
export type CheckedServiceOptions = Required<Omit<ServiceOptions, 'token' | 'dataRoot'>> & {
  readonly dataRoot: string | null;
  readonly token: string | null;
};

const NUMBERS = {
  concurrency: 1,
  threads: usableProcessors(),
  maxQueued: 100,
  maxUploadBytes: 16 * 2 ** 20,
  maxPixels: 40_000_000,
  maxPredictors: 2,
  requestsPerMinute: 600,
  deadlineMs: 20_000,
} as const;
type NumberName = keyof typeof NUMBERS;

const NAMES: readonly (keyof ServiceOptions)[] = [
  ...(Object.keys(NUMBERS) as NumberName[]),
  ...(['runs', 'dataRoot', 'resumeInterrupted', 'token'] as const),
];

const refuse = (problem: string): ServerError => new ServerError(`service: ${problem}`);

/** Throws ServerError. */
export function checkedServiceOptions(options: ServiceOptions): CheckedServiceOptions {
  requireOptions(options, 'options', refuse, NAMES);
  const numbers = Object.fromEntries(
    (Object.keys(NUMBERS) as NumberName[]).map((name) => [name, integerOf(name, options[name])]),
  ) as Record<NumberName, number>;
  const { resumeInterrupted = false, token } = options;
  if (typeof resumeInterrupted !== 'boolean') {
    throw refuse(`resumeInterrupted: expected true or false, got ${shown(resumeInterrupted)}`);
  }
  if (token !== undefined && (typeof token !== 'string' || !TOKEN.test(token))) {
    throw refuse('token: expected at least 16 letters, digits and signs of ASCII without blanks');
  }
  return {
    ...{ ...numbers, resumeInterrupted, token: token ?? null },
    runs: folderOf('runs', options.runs ?? 'runs'),
    dataRoot: options.dataRoot === undefined ? null : folderOf('dataRoot', options.dataRoot),
  };
}

/** A shorter one could be guessed, and a header carries no other characters. */
const TOKEN = /^[!-~]{16,}$/;

function integerOf(name: NumberName, value: number = NUMBERS[name]): number {
  const most = name === 'deadlineMs' ? LONGEST_DEADLINE_MS : Number.MAX_SAFE_INTEGER;
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  const range = name === 'deadlineMs' ? `1 to ${most}` : 'from 1';
  throw refuse(`${name}: expected an integer ${range}, got ${shown(value)}`);
}

function folderOf(name: string, value: unknown): string {
  if (typeof value === 'string' && value !== '') return resolve(value);
  throw refuse(`${name}: expected the path of a folder, got ${shown(value)}`);
}
