// A Python for tests against PyTorch, NumPy or Pillow themselves: LAYERWISE_TEST_PYTHON, or python3.
import { execFile, execFileSync } from 'node:child_process';
import { promisify } from 'node:util';

export const pythonCommand = process.env.LAYERWISE_TEST_PYTHON || 'python3';

/** Why modules cannot be imported; null where they can. */
export function pythonLacks(modules: string): string | null {
  try {
    execFileSync(pythonCommand, ['-c', `import ${modules}`], { stdio: ['ignore', 'ignore', 'pipe'], timeout: 60_000 });
    return null;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: Buffer };
    const reason = stderr?.toString().trim().split('\n').at(-1) || message;
    return `${pythonCommand} cannot import ${modules} (${reason}); LAYERWISE_TEST_PYTHON names another`;
  }
}

/** Why there is no PyTorch; null where there is one. */
export const pythonMissing: string | null = pythonLacks('torch, numpy');

if (pythonMissing !== null) console.warn(`Tests against PyTorch itself are skipped: ${pythonMissing}`);

/** What a script prints, as JSON. */
export async function runPython(script: string, args: readonly (string | number)[]): Promise<unknown> {
  const { stdout } = await promisify(execFile)(pythonCommand, ['-B', script, ...args.map(String)], {
    env: { ...process.env, OMP_NUM_THREADS: '1' },
  });
  return JSON.parse(stdout);
}
