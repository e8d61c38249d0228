// node try-gloo.mjs ADDON STORE MS: two ranks of this process form a sum by Gloo; prints why they could not, or nothing.
import { createRequire } from 'node:module';

const [, , path, store, patience] = process.argv;
const addon = createRequire(import.meta.url)(path);

/** LibTorch's code of float32, and the device code of the CPU. */
const FLOAT32 = 6;
const CPU = -1;
/** The code of a sum. */
const SUM = 0;

/** @typedef {{ reason: string } | undefined} Failure */

class Rank {
  /** @param {number} rank */
  constructor(rank) {
    /** @type {Map<number, (failure: Failure) => void>} */
    this.waiting = new Map();
    this.group = addon.joinGroup('gloo', rank, 2, store, '', 0, false, '', Number(patience), true, this.tell);
    this.tensor = addon.fromTypedArray(Float32Array.of(rank + 1, 10), Float64Array.of(2), FLOAT32, CPU);
  }

  /** @type {(id: number, failure: Failure) => void} */
  tell = (id, failure) => this.waiting.get(id)?.(failure);

  /**
   * @param {number} id
   * @returns {Promise<void>}
   */
  done(id) {
    return new Promise((resolve, reject) => {
      this.waiting.set(id, (failure) => (failure === undefined ? resolve() : reject(new Error(failure.reason))));
    });
  }

  async sum() {
    await this.done(1);
    await this.done(addon.allReduceInGroup(this.group, this.tensor, SUM));
    await this.done(addon.leaveGroup(this.group));
    const values = new Float32Array(2);
    addon.writeTypedArray(this.tensor, values);
    if (values[0] !== 3 || values[1] !== 20) throw new Error(`an all-reduce of 1 and 2 gave ${values[0]}`);
  }
}

try {
  await Promise.all([new Rank(0), new Rank(1)].map((rank) => rank.sum()));
} catch (error) {
  process.stdout.write(error instanceof Error ? error.message : String(error));
}
process.exit(0);
