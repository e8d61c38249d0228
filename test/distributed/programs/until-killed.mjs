// Sums again and again, until a rank is gone.
import { ones } from '../../../dist/tensor/index.js';
import { join, print, told } from './rank.mjs';

const group = await join();
const x = ones([100_000]);
print('joined');
try {
  for (;;) await group.allReduce(x, 'mean');
} catch (error) {
  print(told(error));
}
// Not left: what is open must not keep the process.
