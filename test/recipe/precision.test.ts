import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { resolvePrecision } from '../../lib/recipe/precision.js';
import { buildInfo } from '../../lib/tensor/index.js';

const cpu = (...flags: string[]) => ({ flags: new Set(['sse2', 'avx512f', ...flags]) });

describe('the precision of a run', () => {
  it.each([
    ['cpu', { ...cpu(), version: '2.13.0' }, 'fp32'],
    ['cpu', { ...cpu('avx512_bf16'), version: '2.13.0' }, 'bf16'],
    ['cpu', { ...cpu('amx_bf16'), version: '2.0.1+cpu' }, 'bf16'],
    ['cpu', { ...cpu('avx512_bf16', 'amx_bf16'), version: '1.13.1' }, 'fp32'],
    ['cuda:0', { ...cpu(), version: '1.13.1' }, 'bf16'],
  ] as const)('is chosen by device, processor and LibTorch: on %s, of %o, %s', (device, machine, precision) => {
    expect(resolvePrecision('auto', device, machine)).toBe(precision);
  });

  it('is what is asked for, also where auto would be another', () => {
    const machine = { ...cpu(), version: '2.13.0' };
    for (const precision of ['fp32', 'bf16', 'fp16'] as const) {
      for (const device of ['cpu', 'cuda:0'] as const) {
        expect(resolvePrecision(precision, device, machine)).toBe(precision);
      }
    }
  });

  it('is refused where LibTorch cannot train in it', () => {
    expect(() => resolvePrecision('fp16', 'cpu', { version: '2.3.1' })).toThrow(
      'precision: fp16 on the CPU needs LibTorch 2.4 or later, this is 2.3.1; use bf16 or fp32',
    );
    expect(resolvePrecision('fp16', 'cpu', { version: '2.4.0' })).toBe('fp16');
    expect(resolvePrecision('fp16', 'cuda:0', { version: '2.3.1' })).toBe('fp16');
  });

  it.runIf(process.platform === 'linux')('is chosen by the processor of this machine', () => {
    const flags = execFileSync('sh', ['-c', 'grep -m1 -oE "avx512_bf16|amx_bf16" /proc/cpuinfo || true'], {
      encoding: 'utf8',
    });
    const isFast = flags !== '' && !buildInfo().libtorchBuilt.startsWith('1.');
    expect(resolvePrecision('auto', 'cpu')).toBe(isFast ? 'bf16' : 'fp32');
  });
});
