// One sum of the ranks that a launcher started, each with its rank + 1.
import { joinGroup, readLaunch } from '../../../dist/distributed/index.js';
import { full } from '../../../dist/tensor/index.js';
import { print } from './rank.mjs';

const launch = readLaunch(process.env);
if (launch === null) throw new Error('expected a launcher');
const { rank, worldSize, masterAddress, masterPort, hostsStore, storePrefix } = launch;
const store = { host: masterAddress, port: masterPort, hostsStore, prefix: storePrefix };
const group = await joinGroup({ rank, worldSize, store, timeoutMs: 30_000 });
const x = full([], rank + 1);
await group.allReduce(x);
print({ rank, sum: x.item() });
await group.leave();
