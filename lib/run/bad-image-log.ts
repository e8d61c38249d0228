import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { asWriteError } from '#scripts/support/files.mjs';
import type { BadImage } from '../data/index.js';

/** The files that other images stood in for, one a line in the run directory; a run that goes on adds to it. */
export class BadImageLog {
  readonly #paths = new Set<string>();
  /** By path, until there is a file. */
  readonly #pending = new Map<string, BadImage>();
  #file: string | null = null;

  /** Records a file, once. */
  readonly add = (bad: BadImage): void => {
    if (this.#file === null) this.#pending.set(bad.path, bad);
    else if (!this.#paths.has(bad.path)) this.#append(this.#file, bad);
  };

  open(file: string): void {
    if (existsSync(file)) {
      const text = readFileSync(file, 'utf8');
      const lines = text.split('\n').filter((line) => pathIn(line) !== null);
      for (const line of lines) this.#paths.add(pathIn(line)!);
      // A line that was left incomplete, by a killed process or a full disk, goes before another is joined to it. It is written again
      // when its image is met again.
      const whole = lines.map((line) => `${line}\n`).join('');
      if (whole !== text) write(file, () => writeFileSync(file, whole));
    }
    this.#file = file;
    for (const bad of this.#pending.values()) this.add(bad);
    this.#pending.clear();
  }

  /** Those that were met and are not in a file yet. */
  get unrecorded(): readonly BadImage[] {
    return [...this.#pending.values()];
  }

  /** For people, where there are any. */
  get notes(): string[] {
    const { size } = this.#paths;
    return size === 0
      ? []
      : [`${size} image ${size === 1 ? 'file' : 'files'} could not be used, and others stood in: bad-images.jsonl`];
  }

  #append(file: string, bad: BadImage): void {
    this.#paths.add(bad.path);
    write(file, () => appendFileSync(file, `${JSON.stringify(bad)}\n`));
  }
}

/** The path that a line names; null where it is no line of such a file. */
function pathIn(line: string): string | null {
  try {
    const { path } = JSON.parse(line) as BadImage;
    return typeof path === 'string' ? path : null;
  } catch {
    return null;
  }
}

/** Throws WriteError for what the system refuses. */
function write(file: string, change: () => void): void {
  try {
    change();
  } catch (error) {
    throw asWriteError(file, error);
  }
}
