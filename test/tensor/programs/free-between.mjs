// Keeps many small results made between large ones, which are freed: prints by how many MiB the process has grown, before and
// after it gives back what it holds. Arguments: the compiled library.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

/** @type {typeof import('../../../dist/tensor/index.js')} */
const { keep, ones, releaseFreedMemory, scope } = await import(pathToFileURL(process.argv[2]).href);

/** Mebibytes; NaN where Linux does not tell. */
const resident = () => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024;

scope(() => {
  const x = ones([256 * 1024]);
  for (let i = 0; i < 50; i++) scope(() => x.mul(2).sum());
  const before = resident();
  for (let i = 0; i < 1600; i++) {
    scope(() =>
      keep(
        x
          .narrow(0, 0, (1024 + i) * 64)
          .mul(2)
          .add(1)
          .sum(),
      ),
    );
  }
  const grown = resident() - before;
  releaseFreedMemory();
  console.log(JSON.stringify({ grown, afterRelease: resident() - before }));
});
