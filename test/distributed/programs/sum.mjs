// One sum of the ranks, each with its rank + 1.
import { full } from '../../../dist/tensor/index.js';
import { join, options, print } from './rank.mjs';

const group = await join();
const x = full([], options.rank + 1);
await group.allReduce(x);
print(x.item());
await group.leave();
