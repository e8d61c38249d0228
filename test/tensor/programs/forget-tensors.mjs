// Forgets a hundred tensors and prints what is left of them after garbage collection. Arguments: the compiled library.
import { setTimeout } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

/** @type {typeof import('../../../dist/tensor/index.js')} */
const { full, memoryStats, ones, scope } = await import(pathToFileURL(process.argv[2]).href);
const { gc } = globalThis;
if (gc === undefined) throw new Error('expected node --expose-gc');
const MIB = 2 ** 20;

/** What V8 has been told of bytes outside its heap. */
const external = () => memoryStats().externalBytes;

const stats = () => ({ tensors: memoryStats().liveTensors, mebibytes: memoryStats().cpuBytes / MIB });
const before = external();
const kept = full([MIB / 4], 7);
(() => {
  for (let i = 0; i < 50; i++) ones([MIB / 4]);
  for (let i = 0; i < 50; i++) scope(() => ones([MIB / 4]));
})();
const made = stats();
const externalGrew = external() - before >= 100 * MIB;
for (let i = 0; i < 50 && memoryStats().liveTensors > 1; i++) {
  gc();
  await setTimeout(20);
}
console.log(
  JSON.stringify({
    made,
    afterCollection: stats(),
    keptValue: scope(() => kept.select(0, 0).item()),
    externalGrew,
    externalCameBack: external() - before < 10 * MIB,
  }),
);
