import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { readJson, writeJson } from './files.mjs';

/**
 * What each set-up step last ran on and what it left, in one small file. A step is fresh when both still hold, so an
 * output that somebody deleted or replaced makes its step run again just as a changed input does.
 */
export class Stamps {
  #path;
  #stamps;

  constructor(folder) {
    this.#path = join(folder, 'stamps.json');
    this.#stamps = readJson(this.#path) ?? {};
  }

  isFresh(step, inputs, outputs) {
    const stamp = this.#stamps[step];
    return stamp !== undefined && same(stamp.inputs, inputs) && same(stamp.outputs, outputs);
  }

  record(step, inputs, outputs) {
    this.#stamps[step] = { inputs, outputs };
    writeJson(this.#path, this.#stamps);
  }

  /** Called before a step runs: a step that was interrupted has not run. */
  forget(step) {
    delete this.#stamps[step];
    if (Object.keys(this.#stamps).length === 0) rmSync(this.#path, { force: true });
    else writeJson(this.#path, this.#stamps);
  }
}

function same(left, right) {
  return JSON.stringify(left) === JSON.stringify(right);
}
