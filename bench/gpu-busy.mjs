// The part of the time in which a GPU runs kernels, as nvidia-smi samples it (its "utilization").
import { spawn } from 'node:child_process';

/**
 * Runs `work`; resolves to its value and the mean percentage over its samples, NaN where there is none.
 * @template T
 * @param {() => Promise<T>} work
 * @param {number} [gpu] its index
 */
export async function whileSampling(work, gpu = 0) {
  const query = ['--query-gpu=utilization.gpu', '--format=csv,noheader,nounits', '--loop-ms=100', `--id=${gpu}`];
  const sampler = spawn('nvidia-smi', query, { stdio: ['ignore', 'pipe', 'inherit'] });
  /** @type {number[]} */
  const samples = [];
  sampler.on('error', (error) => console.error(`bench: nvidia-smi: ${error.message}`));
  sampler.stdout.on('data', (text) => samples.push(...String(text).trim().split('\n').map(Number)));
  try {
    const value = await work();
    return { value, percent: samples.reduce((a, b) => a + b, 0) / samples.length };
  } finally {
    sampler.kill();
  }
}
