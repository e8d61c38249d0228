// Real processes as the ranks of a group.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** What it printed, a JSON text a line. */
  readonly lines: readonly unknown[];
  readonly stderr: string;
}

/** A folder that is gone after `use`, for a store. */
export async function inFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'layerwise-ranks-'));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Runs a program of test/distributed/programs as so many processes; each has its rank's options to join as JSON in JOIN. */
export function startRanks(program: string, options: readonly object[], env: NodeJS.ProcessEnv = {}): RunningRanks {
  return new RunningRanks(
    options.map((join) => {
      const path = fileURLToPath(new URL(`programs/${program}`, import.meta.url));
      return spawn(process.execPath, [path], { env: { ...process.env, ...env, JOIN: JSON.stringify(join) } });
    }),
  );
}

export class RunningRanks {
  readonly ended: Promise<readonly Ended[]>;

  constructor(readonly processes: readonly ChildProcess[]) {
    this.ended = Promise.all(processes.map(endOf));
  }

  /** Resolves when the process of a rank has printed something. */
  printed(rank: number): Promise<void> {
    return new Promise((resolve) => this.processes[rank]!.stdout!.once('data', () => resolve()));
  }

  end(): void {
    for (const one of this.processes) one.kill('SIGKILL');
  }
}

function endOf(child: ChildProcess): Promise<Ended> {
  let stdout = '';
  let stderr = '';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return new Promise((resolve) => {
    child.once('close', (code, signal) => {
      const lines = stdout.split('\n').filter(Boolean);
      resolve({ code, signal, lines: lines.map((line) => JSON.parse(line) as unknown), stderr });
    });
  });
}
