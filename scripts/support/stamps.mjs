import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { isObject, readJson, writeJson } from './files.mjs';

/**
 * What each set-up step last ran on and what it left, in one small file. A step is fresh when both still hold, so an
 * output that somebody deleted or replaced makes its step run again just as a changed input does.
 */
export class Stamps {
  #path;
  /** @type {Record<string, unknown>} */
  #stamps;

  /** @param {string} folder */
  constructor(folder) {
    this.#path = join(folder, 'stamps.json');
    const stamps = readJson(this.#path);
    this.#stamps = isObject(stamps) ? stamps : {};
  }

  /**
   * @param {string} step
   * @param {readonly unknown[]} inputs
   * @param {readonly unknown[]} outputs
   */
  isFresh(step, inputs, outputs) {
    const stamp = this.#stamps[step];
    return isObject(stamp) && same(stamp.inputs, inputs) && same(stamp.outputs, outputs);
  }

  /**
   * @param {string} step
   * @param {readonly unknown[]} inputs
   * @param {readonly unknown[]} outputs
   */
  record(step, inputs, outputs) {
    this.#stamps[step] = { inputs, outputs };
    writeJson(this.#path, this.#stamps);
  }

  /**
   * Called before a step runs: a step that was interrupted has not run.
   * @param {string} step
   */
  forget(step) {
    delete this.#stamps[step];
    if (Object.keys(this.#stamps).length === 0) rmSync(this.#path, { force: true });
    else writeJson(this.#path, this.#stamps);
  }
}

/**
 * @param {unknown} left
 * @param {unknown} right
 */
function same(left, right) {
  return JSON.stringify(left) === JSON.stringify(right);
}
