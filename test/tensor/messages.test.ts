// What LibTorch itself writes never stands between the lines of a program: file descriptor 2 is read.
import { execFile } from 'node:child_process';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { onLibTorchMessage } from '../../lib/tensor/index.js';

const run = promisify(execFile);
const program = fileURLToPath(new URL('programs/libtorch-messages.mjs', import.meta.url));
const library = fileURLToPath(new URL('../../dist/tensor/index.js', import.meta.url));

async function warned(...args: string[]): Promise<{ stdout: string; lines: string[] }> {
  const { stdout, stderr } = await run(process.execPath, [program, library, ...args]);
  return { stdout, lines: stderr.trim().split('\n') };
}

describe("LibTorch's messages", () => {
  it('are Node warnings, each text once in the process, and never raw lines', async () => {
    const { lines } = await warned();
    expect(lines.filter((line) => /\[W/.test(line))).toEqual([]);
    expect(lines.slice(0, 2)).toEqual(['before', 'after']);
    const warnings = lines.filter((line) => line.includes('LibTorchWarning'));
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(/^\(node:\d+\) LibTorchWarning: indexing with dtype torch.uint8 is now deprecated/);
    expect(lines.at(-1)).toBe('end');
  });

  it('go to a handler where there is one, and then nowhere else', async () => {
    const { stdout, lines } = await warned('handle');
    expect(lines).toEqual(['before', 'after', 'end']);
    expect(stdout).toMatch(/^message: indexing with dtype torch.uint8 is now deprecated.*\n$/);
  });

  it.each(['x', 1, {}, undefined])('go to no handler that is no function: %s', (handle) => {
    expect(() => onLibTorchMessage(handle as never)).toThrow(
      expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        message: `onLibTorchMessage: expected a function or null for handle, got ${typeof handle}`,
      }),
    );
  });

  it('are not lost where the process ends with the call that brought them', async () => {
    const last = `
      const { ones, tensor } = await import(${JSON.stringify(pathToFileURL(library).href)});
      ones([2]).index([tensor(Uint8Array.of(1, 0))]);
      process.exit(0);`;
    const ended = async (...flags: string[]) =>
      (await run(process.execPath, [...flags, '--input-type=module', '-e', last])).stderr;
    expect(await ended()).toMatch(/^\(node:\d+\) LibTorchWarning: indexing with dtype torch.uint8 is now deprecated/);
    expect(await ended('--no-warnings')).toBe('');
  });
});
