import { appendFileSync, existsSync, readFileSync } from 'node:fs';
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
      // A line that a killed process left incomplete is written again when its image is met again.
      for (const line of readFileSync(file, 'utf8').split('\n').slice(0, -1)) {
        this.#paths.add((JSON.parse(line) as BadImage).path);
      }
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
    appendFileSync(file, `${JSON.stringify(bad)}\n`);
  }
}
