// Every collective over dtypes and shapes; prints what this rank has afterwards.
import { empty, full, tensor } from '../../../dist/tensor/index.js';
import { join, options, pause, print } from './rank.mjs';

const { rank, worldSize } = options;
const LENGTH = 1000;
/** @typedef {import('../../../dist/tensor/index.js').DType} DType */
/** @typedef {import('../../../dist/tensor/index.js').ReduceOperation} ReduceOperation */
/** @typedef {import('../../../dist/tensor/index.js').Tensor} Tensor */

/** @type {readonly DType[]} */
const numbers = ['uint8', 'int64', 'float16', 'bfloat16', 'float32', 'float64'];
/** @type {readonly ReduceOperation[]} */
const operations = ['sum', 'max', 'mean'];

/**
 * Whole numbers whose sums every dtype holds exactly.
 * @param {number} of
 */
const values = (of) => Array.from({ length: LENGTH }, (_, i) => (7 * i + 13 * of) % 23);
/** @param {DType} dtype */
const own = (dtype) => tensor(values(rank)).to({ dtype });
/** @param {Tensor} x */
const listed = (x) => [...x.to({ dtype: 'float64' }).toTypedArray()];

const group = await join();
/** @type {Record<string, unknown>} */
const results = {};

for (const dtype of numbers) {
  for (const operation of operations) {
    if (operation === 'mean' && ['uint8', 'int64'].includes(dtype)) continue;
    const x = own(dtype);
    await group.allReduce(x, operation);
    results[`${operation} ${dtype}`] = listed(x);
  }
}
for (const dtype of [...numbers, /** @type {const} */ ('bool')]) {
  const x = own(dtype);
  await group.broadcast(x, 1);
  results[`broadcast ${dtype}`] = listed(x);
  const output = empty([worldSize, LENGTH], { dtype });
  await group.allGather(own(dtype), output);
  results[`allGather ${dtype}`] = listed(output);
}

// Channels last in memory; a scalar; nothing.
const last = tensor(values(rank).slice(0, 24)).reshape([2, 3, 2, 2]).contiguous({ memoryFormat: 'channelsLast' });
await group.allReduce(last);
results.channelsLast = listed(last.contiguous());
const scalar = full([], rank + 1);
await group.allReduce(scalar);
results.scalar = scalar.item();
await group.allReduce(empty([0, 3]), 'mean');
await group.broadcast(empty([0]));
await group.allGather(empty([0, 2]), empty([worldSize, 0, 2]));

// Fractions, whose sums depend on their order: all ranks must have the same bits.
const fractions = tensor(values(rank).map((value) => Math.sin(value + rank)));
await group.allReduce(fractions);
results.bits = Buffer.from(fractions.toTypedArray().buffer).toString('base64');

// Many at once, of lengths that take longer and shorter.
const many = Array.from({ length: 20 }, (_, i) => tensor(new Float32Array(i % 2 === 0 ? 300_000 : 3).fill(i + rank)));
/** @type {number[]} */
const settled = [];
await Promise.all(
  many.map(async (x, i) => {
    await group.allReduce(x, 'mean');
    settled.push(i);
  }),
);
results.many = many.map((x) => x.mean().item());
results.settled = settled;

// From each rank to the next, some on their way at once: of several dtypes and lengths, in the order of the calls. A collective behind a
// receive that nothing has come for is not kept from its end.
const [before, after] = [(rank + worldSize - 1) % worldSize, (rank + 1) % worldSize];
const late = tensor(new Float32Array(2));
const receiving = group.receive(late, before);
await group.barrier();
const parcels = numbers.map((dtype, i) => tensor(values(rank).slice(0, 10 ** (i % 4))).to({ dtype }));
const received = numbers.map((dtype, i) => empty([10 ** (i % 4)], { dtype }));
await Promise.all([
  group.send(tensor([rank, -rank]), after),
  ...parcels.map((x) => group.send(x, after)),
  receiving,
  ...received.map((x) => group.receive(x, before)),
]);
results.late = listed(late);
results.received = received.map(listed);
const image = tensor(values(rank).slice(0, 24)).reshape([2, 3, 2, 2]).contiguous({ memoryFormat: 'channelsLast' });
const taken = empty([2, 3, 2, 2]).contiguous({ memoryFormat: 'channelsLast' });
await Promise.all([group.send(image, after), group.receive(taken, before)]);
results.taken = listed(taken.contiguous());
results.refused = await group.send(image, rank).then(
  () => 'sent',
  (error) => String(error),
);

// The event loop goes on while this rank waits for the last.
let ticks = 0;
const ticking = setInterval(() => ticks++, 5);
if (rank === worldSize - 1) await pause(300);
await group.barrier();
clearInterval(ticking);
results.ticks = ticks;

await group.leave();
print(results);
