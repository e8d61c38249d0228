import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { keep, measurePeak, memoryStats, noGrad, ones, scope, zeros } from '../../lib/tensor/index.js';
import { native } from '../../lib/tensor/native.js';

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
});

describe('bytes that V8 is told of', () => {
  // Node reports only the part of ArrayBuffers; an adjustment by nothing tells V8's whole sum.
  const external = () => native.adjustExternalMemory(0);

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
