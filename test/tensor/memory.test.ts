import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { keep, measureAttempt, measurePeak, memoryStats, noGrad, ones, scope, zeros } from '../../lib/tensor/index.js';

const MIB = 2 ** 20;

/** Programs of their own, on the compiled library: garbage collection is only forced in a process started for it. */
function runProgram(name: string, ...flags: string[]): Promise<{ stdout: string; stderr: string }> {
  const compiled = join(import.meta.dirname, '../../dist/tensor/index.js');
  if (!existsSync(compiled)) throw new Error(`${compiled} is missing; set-up builds it: npm run build`);
  return promisify(execFile)(process.execPath, [...flags, join(import.meta.dirname, 'programs', name), compiled], {
    timeout: 50_000,
  });
}

describe('memoryStats', () => {
  it('counts tensors, and the bytes of a storage once however many views it has', () => {
    scope(() => {
      const before = memoryStats();
      const x = zeros([256, 1024]);
      expect(memoryStats()).toEqual({
        ...before,
        liveTensors: before.liveTensors + 1,
        cpuBytes: before.cpuBytes + MIB,
      });
      x.transpose(0, 1);
      x.select(0, 3);
      expect(memoryStats()).toEqual({
        ...before,
        liveTensors: before.liveTensors + 3,
        cpuBytes: before.cpuBytes + MIB,
      });
      x.clone();
      expect(memoryStats().cpuBytes).toBe(before.cpuBytes + 2 * MIB);
    });
  });
});

describe('measurePeak', () => {
  it('sees the most bytes that were allocated at one time, and gives the result', () => {
    const { result, peakBytes } = measurePeak(() =>
      scope(() => {
        zeros([MIB]).dispose(); // 4 MiB, gone before the next
        const x = zeros([MIB / 2]); // 2 MiB
        return x.add(1).add(1).select(0, 5).item(); // 2 MiB and 2 MiB more
      }),
    );
    expect(result).toBe(2);
    expect(peakBytes).toBeGreaterThanOrEqual(6 * MIB);
    expect(peakBytes).toBeLessThan(6.1 * MIB);
  });

  it('sees what only the autograd graph holds', () => {
    const peak = (body: () => void) => measurePeak(() => scope(body)).peakBytes;
    const chain = () => {
      let x = ones([MIB / 4]);
      x.requiresGrad = true;
      for (let i = 0; i < 4; i++) {
        const next = x.exp();
        if (i > 0) x.dispose();
        x = next;
      }
    };
    // 1 MiB each: the leaf and the four results that exp keeps for its derivative; without a graph, two at a time.
    expect(peak(chain)).toBeGreaterThanOrEqual(5 * MIB);
    expect(peak(() => noGrad(chain))).toBeLessThan(3.1 * MIB);
  });

  it('passes on an error and measures again', () => {
    expect(() =>
      measurePeak(() => {
        throw new Error('mine');
      }),
    ).toThrow('mine');
    expect(measurePeak(() => 1)).toEqual({ result: 1, peakBytes: 0 });
  });

  it('counts what is measured inside it, too', () => {
    const inner = scope(() =>
      measurePeak(() => {
        const { peakBytes } = measurePeak(() => zeros([MIB]).dispose());
        zeros([MIB / 2]).dispose();
        return peakBytes;
      }),
    );
    expect(inner.result).toBe(4 * MIB);
    expect(inner.peakBytes).toBe(4 * MIB);
  });

  it('refuses an asynchronous function, whose work would not be measured', () => {
    expect(() => measurePeak(async () => 1)).toThrow(/measurePeak: expected a synchronous function/);
    expect(() => measureAttempt(async () => 1)).toThrow(/measurePeak: expected a synchronous function/);
  });
});

describe('bytes that V8 is told of', () => {
  const external = () => memoryStats().externalBytes;

  it('are those of tensors outside every scope, until they are disposed', () => {
    const before = external();
    const x = zeros([8 * MIB]);
    expect(external() - before).toBeGreaterThanOrEqual(32 * MIB);
    x.dispose();
    expect(external() - before).toBeLessThan(MIB);
  });

  it('do not grow for tensors that a scope frees, and do for kept ones', () => {
    scope(() => {
      const before = external();
      const x = zeros([8 * MIB]);
      expect(external() - before).toBeLessThan(MIB);
      keep(x);
      expect(external() - before).toBeGreaterThanOrEqual(32 * MIB);
      x.dispose();
      expect(external() - before).toBeLessThan(MIB);
    });
  });
});

describe('views outside every scope', () => {
  it('bring no bytes of their own, and keep those of the storage until the last is gone', () => {
    const before = memoryStats().externalBytes;
    const base = zeros([MIB]);
    const views = Array.from({ length: 100 }, (_, i) => base.narrow(0, i, MIB - 100));
    const one = ones([1]);
    views.push(one, one.expand([2 ** 52]), base.detach(), base.reshape([2, MIB / 2]));
    expect(memoryStats().externalBytes - before).toBe(4 * MIB + 4);
    base.dispose();
    expect(memoryStats().externalBytes - before).toBe(4 * MIB + 4);
    for (const view of views) view.dispose();
    expect(memoryStats().externalBytes).toBe(before);
  });

  it('exchange their storage with their tensor', () => {
    const before = memoryStats().externalBytes;
    const small = keep(ones([1]));
    small.become(ones([MIB]));
    expect(memoryStats().externalBytes - before).toBe(4 * MIB);
    small.dispose();
    expect(memoryStats().externalBytes).toBe(before);
  });
});

describe('garbage collection', () => {
  it('frees tensors that left every scope and were forgotten, and only those', async () => {
    const { stdout } = await runProgram('forget-tensors.mjs', '--expose-gc');
    expect(JSON.parse(stdout)).toEqual({
      made: { tensors: 101, mebibytes: 101 },
      afterCollection: { tensors: 1, mebibytes: 1 },
      keptValue: 7,
      externalGrew: true,
      externalCameBack: true,
    });
  });
});

describe('memory that was freed', () => {
  // AddressSanitizer has an allocator of its own, which keeps what was freed to catch its use.
  it.skipIf(process.env.LAYERWISE_SANITIZE?.split(',').includes('address') === true)(
    'between what is in use goes back to the system',
    async () => {
      const { stdout } = await runProgram('free-between.mjs');
      const { grown, afterRelease } = JSON.parse(stdout);
      expect(afterRelease).toBeLessThan(Math.max(32, grown / 2));
    },
  );
});

describe('worker threads', () => {
  it('use the addon at once, each with tensors, modes and errors of its own', async () => {
    const { stdout } = await runProgram('many-workers.mjs');
    expect(JSON.parse(stdout)).toEqual({
      workers: Array.from({ length: 4 }, (_, i) => ({
        liveDuring: i + 1,
        liveAfter: 0,
        gradient: Array.from({ length: 3 }, () => 2 * (i + 1)),
        error: 'OPERATOR_FAILED',
        gradOutside: true,
      })),
      mainLive: 1,
      mainGradEnabled: true,
    });
  });

  it('may be ended in the middle of their work without harm to the process', async () => {
    const { stdout } = await runProgram('ended-workers.mjs');
    expect(JSON.parse(stdout)).toEqual({ ended: 6, mainResult: 8, mainLive: 0 });
  });
});
