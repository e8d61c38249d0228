// A rank of all-reduces in a process of its own, which bench/scale-run.mjs starts: `all-reduce-run.mjs RANK RANKS STORE`. Its one message has
// the seconds of each size that a quarter of the rounds do not exceed.
import { joinGroup } from '../dist/distributed/index.js';
import { setThreads, zeros } from '../dist/tensor/index.js';
import { summarize } from './statistics.mjs';

/** @typedef {{ bytes: number, seconds: number }} AllReduce */

const KIB = 1024;
const SIZES = Array.from({ length: 14 }, (_, power) => 4 * KIB * 2 ** power);
const WARM = 3;
/** Rounds of each size: fewer of the large ones. */
const [MOST, FEWEST] = [40, 8];

const [rank, worldSize] = process.argv.slice(2, 4).map(Number);
setThreads(1);
// As training does: the ranks compare once what they are to do.
const group = await joinGroup({ rank, worldSize, store: { file: process.argv[4] }, verify: false, timeoutMs: 60_000 });
/** @type {AllReduce[]} */
const measured = [];
for (const bytes of SIZES) {
  const values = zeros([bytes / 4]);
  const rounds = bytes > KIB * KIB ? FEWEST : MOST;
  /** @type {number[]} */
  const seconds = [];
  for (let round = 0; round < WARM + rounds; round++) {
    const start = performance.now();
    await group.allReduce(values);
    if (round >= WARM) seconds.push((performance.now() - start) / 1000);
  }
  values.dispose();
  measured.push({ bytes, seconds: summarize(seconds).low });
}
await group.leave();
process.send?.(measured, () => process.exit(0));
