// Ends in the way that HOW says, without leaving: at the end of the program, by process.exit, or while a collective waits.
import { ones } from '../../../dist/tensor/index.js';
import { join, options, print } from './rank.mjs';

const group = await join();
await group.barrier();
if (process.env.HOW === 'exit') process.exit(3);
if (process.env.HOW === 'waiting' && options.rank === 0) {
  group.allReduce(ones([4])).catch(() => {});
  setTimeout(() => process.exit(3), 100);
}
print('end');
