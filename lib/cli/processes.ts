// `--processes N`: the ranks of a training as processes of this machine, for those who have no launcher such as torchrun.
import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { usableProcessors } from '#scripts/support/limits.mjs';
import { localVariables, readLaunch, type Variables } from '../distributed/index.js';
import { EXIT, UsageError } from './exit.js';
import { abortOnInterrupt } from './interrupt.js';
import { SIGNALS } from './signals.js';

export const MOST_PROCESSES = 1024;

/**
 * Starts this same command as `count` processes and waits for them. Returns the exit code: 0 where all have done their work, 130 where
 * they were interrupted, else that of the first that failed. LibTorch is not loaded here. Throws UsageError where a launcher has
 * started several processes already.
 */
export function startProcesses(count: number, areThreadsGiven: boolean): Promise<number> {
  refuseInLaunch(count);
  const usable = usableProcessors();
  const processors = usable === 1 ? 'one processor' : `${usable} processors`;
  if (count > usable) tell(`${count} processes take turns on ${processors}`);
  return runProcesses({
    count,
    program: process.execPath,
    args: [...process.execArgv, process.argv[1]!, ...withoutProcesses(process.argv.slice(2))],
    variables: areThreadsGiven ? process.env : withThreads(process.env, Math.floor(usable / count)),
  });
}

function refuseInLaunch(count: number): void {
  const launch = readLaunch(process.env);
  if (launch === null || launch.worldSize === 1) return;
  throw new UsageError(
    `--processes ${count}: expected a process that no launcher has started, got rank ${launch.rank} of ${launch.worldSize} ` +
      `by the variables of ${launch.launcher}; leave out --processes, or the launcher`,
  );
}

/** The arguments without `--processes N` and `--processes=N`. */
export const withoutProcesses = (args: readonly string[]): string[] =>
  args.filter((arg, i) => arg !== '--processes' && args[i - 1] !== '--processes' && !arg.startsWith('--processes='));

/** OMP_NUM_THREADS, unless it is there: it is how many threads LibTorch computes on, and changes nothing of how they wait for work. */
export const withThreads = (variables: Variables, threads: number): Variables =>
  (variables.OMP_NUM_THREADS ?? '') === ''
    ? { ...variables, OMP_NUM_THREADS: String(Math.max(1, threads)) }
    : variables;

/** Set for a process that ends with the one that started it. */
const LAUNCHED = 'LAYERWISE_LAUNCHED';

/**
 * In a process that `runProcesses` has started: where the one that started it is gone, even killed, this one goes on as at SIGTERM,
 * and as at a second one after `patienceMs`. Its IPC channel tells. Any other process is left as it is.
 */
export function endWithLauncher(patienceMs = 60_000): void {
  const isLaunched = process.env[LAUNCHED] !== undefined && process.connected !== undefined;
  delete process.env[LAUNCHED];
  if (!isLaunched) return;
  const terminate = (): boolean => process.kill(process.pid, 'SIGTERM');
  const end = (): void => {
    terminate();
    setTimeout(terminate, patienceMs).unref();
  };
  // It may have gone before this was called.
  if (!process.connected) end();
  else process.once('disconnect', end);
  // To listen would keep the process running.
  process.channel?.unref();
}

export interface ProcessesOptions {
  readonly count: number;
  readonly program: string;
  readonly args: readonly string[];
  /** Environment variables; each process gets those of its rank besides. */
  readonly variables: Variables;
  /** Milliseconds that the others have to end by themselves where one has failed; then they get SIGTERM. Default: 30 000. */
  readonly graceMs?: number;
  /** Milliseconds from SIGTERM to SIGKILL; default: 10 000. */
  readonly killMs?: number;
  /** Milliseconds that the output of a process is waited for after its end, where what it started holds it open; default: 5 000. */
  readonly drainMs?: number;
}

/**
 * Runs a program as the ranks of one launch. Rank 0 has this process's standard input, output and error stream; what the others write to
 * either stream comes out on this process's error stream, line by line, behind `rank N: `. A first SIGINT, SIGTERM or SIGHUP is passed on
 * as SIGTERM; a second one ends all. Returns the exit code, see `startProcesses`.
 */
export async function runProcesses(options: ProcessesOptions): Promise<number> {
  const masterPort = await freePort();
  const processes = new Processes(options);
  const interrupt = abortOnInterrupt(
    () => processes.interrupt(),
    () => processes.endAtOnce(),
  );
  try {
    return await processes.run(masterPort, interrupt.signal);
  } finally {
    interrupt.release();
  }
}

/** How the process of a rank ended: by a code or a signal, or it never began. */
interface End {
  readonly rank: number;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly error?: Error;
  /** Whether it is known that it wrote something; of rank 0 it is taken for granted. */
  readonly hasSpoken: boolean;
}

const MILLISECONDS_AT_ONCE = 1_000;

class Processes {
  readonly #options: Required<ProcessesOptions>;
  readonly #running = new Map<number, ChildProcess>();
  readonly #timers: NodeJS.Timeout[] = [];
  #isInterrupted = false;
  #failure: End | null = null;
  #isEnding = false;
  #allDone = true;

  constructor(options: ProcessesOptions) {
    this.#options = { graceMs: 30_000, killMs: 10_000, drainMs: 5_000, ...options };
  }

  async run(masterPort: number, interrupted: AbortSignal): Promise<number> {
    const ends: Promise<void>[] = [];
    for (let rank = 0; rank < this.#options.count && this.#failure === null && !interrupted.aborted; rank++) {
      ends.push(this.#runRank(rank, masterPort).then((end) => this.#hasEnded(end)));
      // To start hundreds takes seconds, in which signals are heard too.
      await setImmediate();
    }
    await Promise.all(ends);
    for (const timer of this.#timers) clearTimeout(timer);
    if (ends.length === 0) tell('interrupted before a process was started');
    if (this.#failure !== null) return codeOf(this.#failure);
    return this.#allDone && ends.length === this.#options.count ? EXIT.done : EXIT.interrupted;
  }

  interrupt(): void {
    this.#isInterrupted = true;
    this.#signal('SIGTERM');
  }

  endAtOnce(): void {
    if (!this.#isEnding) this.#end(0, MILLISECONDS_AT_ONCE);
    this.#isEnding = true;
  }

  async #runRank(rank: number, masterPort: number): Promise<End> {
    try {
      const child = this.#start(rank, masterPort);
      let hasSpoken = rank === 0;
      for (const stream of [child.stdout, child.stderr]) {
        stream?.once('data', () => {
          hasSpoken = true;
        });
        if (stream !== null) passLines(stream, `rank ${rank}: `);
      }
      return { rank, ...(await endOf(child, this.#options.drainMs)), hasSpoken };
    } catch (error) {
      // Node throws what it does not expect of the system, such as no memory.
      return { rank, code: null, signal: null, error: error as Error, hasSpoken: false };
    }
  }

  #start(rank: number, masterPort: number): ChildProcess {
    const { count, program, args, variables } = this.#options;
    const child = spawn(program, args, {
      env: { ...localVariables(variables, { rank, worldSize: count, masterPort }), [LAUNCHED]: '1' },
      stdio: rank === 0 ? ['inherit', 'inherit', 'inherit', 'ipc'] : ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.#running.set(rank, child);
    child.once('exit', () => this.#running.delete(rank));
    return child;
  }

  #hasEnded(end: End): void {
    this.#allDone &&= end.code === 0;
    if (end.code === 0 || this.#isEnding || this.#failure !== null || this.#wasInterrupted(end)) return;
    this.#failure = end;
    const sentence = sentenceOf(end);
    if (sentence !== null) tell(sentence);
    // What cannot be whole any more need not be waited for.
    this.#end(end.error === undefined ? this.#options.graceMs : 0, this.#options.killMs);
  }

  /** Others may be writing a checkpoint then, for as long as it takes: it is no failure. */
  #wasInterrupted({ code, signal }: End): boolean {
    if (code === EXIT.interrupted) return true;
    return this.#isInterrupted && signal !== null && SIGNALS.some((name) => name === signal);
  }

  #end(graceMs: number, killMs: number): void {
    const terminate = (): void => {
      if (graceMs > 0 && this.#running.size > 0) tell(`${this.#shownRunning()} after ${graceMs / 1000} s: SIGTERM`);
      this.#signal('SIGTERM');
      this.#timers.push(setTimeout(() => this.#signal('SIGKILL'), killMs));
    };
    if (graceMs === 0) terminate();
    else this.#timers.push(setTimeout(terminate, graceMs));
  }

  #shownRunning(): string {
    const ranks = [...this.#running.keys()];
    return ranks.length === 1 ? `rank ${ranks[0]} still runs` : `ranks ${ranks.join(', ')} still run`;
  }

  #signal(name: NodeJS.Signals): void {
    for (const child of this.#running.values()) child.kill(name);
  }
}

function codeOf({ code, signal }: End): number {
  return code ?? (signal === null ? EXIT.failed : 128 + constants.signals[signal]);
}

/** How a rank ended; null where its own words say it. */
function sentenceOf({ rank, code, signal, error, hasSpoken }: End): string | null {
  if (error !== undefined) return `rank ${rank} could not be started: ${error.message}`;
  if (signal === 'SIGKILL') return `rank ${rank} was killed (SIGKILL), perhaps since memory ran out`;
  if (signal !== null) return `rank ${rank} was ended by ${signal}`;
  return hasSpoken ? null : `rank ${rank} ended with exit code ${code}, without a word`;
}

function tell(sentence: string): void {
  writeLines(Buffer.from(`layerwise: ${sentence}`).toString('latin1'));
}

/**
 * On a terminal the progress bar of rank 0 may stand in the line: it is cleared away, long lines are wrapped in spite of it, and the place
 * that it clears when it is over is the one behind these lines, where it will be drawn next. `lines`: a character a byte.
 */
function writeLines(lines: string): void {
  const [before, after] = process.stderr.isTTY ? ['\r\x1b[K\x1b[?7s\x1b[?7h', '\x1b[?7r\x1b7'] : ['', ''];
  process.stderr.write(`${before}${lines}\n${after}`, 'latin1');
}

/**
 * Resolves when a process has ended and all that it wrote was read. A process of its own that holds its streams open is waited for
 * as long as `drainMs`.
 */
function endOf(child: ChildProcess, drainMs: number): Promise<Pick<End, 'code' | 'signal' | 'error'>> {
  return new Promise((resolve) => {
    // Of a process that could not be started nothing else is told.
    child.on('error', (error) => {
      if (child.pid === undefined) resolve({ code: null, signal: null, error });
    });
    let late: NodeJS.Timeout | undefined;
    child.once('exit', (code, signal) => {
      const letGo = (): void => {
        letGoOf(child);
        resolve({ code, signal });
      };
      // After the event loop has read what is there, however late it is.
      late = setTimeout(() => void setImmediate().then(letGo), drainMs);
    });
    child.once('close', (code, signal) => {
      clearTimeout(late);
      resolve({ code, signal });
    });
  });
}

/** Else they would keep this process running. */
function letGoOf(child: ChildProcess): void {
  if (child.connected) child.disconnect();
  child.stdout?.destroy();
  child.stderr?.destroy();
}

/** Passes whole lines on to the error stream, byte by byte as they came, each behind `prefix`; what is left at the end is a line, too. */
function passLines(stream: Readable, prefix: string): void {
  const pass = (lines: string): void => writeLines(`${prefix}${lines.replaceAll('\n', `\n${prefix}`)}`);
  let rest: string[] = [];
  stream.setEncoding('latin1').on('data', (text: string) => {
    const end = text.lastIndexOf('\n');
    if (end >= 0) {
      pass(rest.join('') + text.slice(0, end));
      rest = [];
    }
    rest.push(text.slice(end + 1));
  });
  stream.once('close', () => {
    if (rest.join('') !== '') pass(rest.join(''));
  });
}

/** One that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
