// A Python that has PyTorch and NumPy, for tests against PyTorch itself: LAYERWISE_TEST_PYTHON, or python3.
import { execFile, execFileSync } from 'node:child_process';
import { promisify } from 'node:util';

const command = process.env.LAYERWISE_TEST_PYTHON || 'python3';

/** Why there is none; null where there is one. */
export const pythonMissing: string | null = (() => {
  try {
    execFileSync(command, ['-c', 'import torch, numpy'], { stdio: ['ignore', 'ignore', 'pipe'], timeout: 60_000 });
    return null;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: Buffer };
    const reason = stderr?.toString().trim().split('\n').at(-1) || message;
    return `${command} has no PyTorch and NumPy (${reason}); LAYERWISE_TEST_PYTHON names another`;
  }
})();

if (pythonMissing !== null) console.warn(`Tests against PyTorch itself are skipped: ${pythonMissing}`);

/** What a script prints, as JSON. */
export async function runPython(script: string, args: readonly (string | number)[]): Promise<unknown> {
  const { stdout } = await promisify(execFile)(command, ['-B', script, ...args.map(String)], {
    env: { ...process.env, OMP_NUM_THREADS: '1' },
  });
  return JSON.parse(stdout);
}
