import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Those that are in use, to be removed where the thread ends before they are disposed. */
const inUse = new Set<string>();

const remove = (path: string): void => rmSync(path, { recursive: true, force: true });
const removeAll = (): void => inUse.forEach(remove);

/**
 * A folder for what is kept where there is no run directory. It is made by whoever writes to it, and gone when it is disposed or the
 * thread ends.
 */
export class TemporaryFolder implements Disposable {
  readonly path = join(tmpdir(), `layerwise-${randomUUID()}`);

  constructor() {
    if (inUse.size === 0) process.on('exit', removeAll);
    inUse.add(this.path);
  }

  /** A folder in it that nobody else uses. */
  newPath(): string {
    return join(this.path, randomUUID());
  }

  [Symbol.dispose](): void {
    inUse.delete(this.path);
    if (inUse.size === 0) process.off('exit', removeAll);
    remove(this.path);
  }
}
