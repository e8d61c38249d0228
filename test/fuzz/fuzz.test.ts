// The short form of `npm run fuzz`, and the program itself.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Choices } from './choices.js';
import { mutation } from './format.js';
import { formats } from './formats.js';
import { damagedFiles, type Fuzzed, runCases } from './fuzzed.js';

describe('fuzzing', () => {
  it.each(formats)('200 cases of $name end in a result or a typed error', { timeout: 600_000 }, async (fuzzed) => {
    await runCases(fuzzed, { seed: 1, count: 200 });
  });

  it('has a name for each format that a command line can hold', () => {
    expect(formats.filter(({ name }) => !/^[\w-]+$/.test(name))).toEqual([]);
    expect(new Set(formats.map(({ name }) => name)).size).toBe(formats.length);
  });

  it('makes a case of its seed and number alone', () => {
    const drawn = (seed: number, number: number) => {
      const choices = new Choices({ seed, number });
      return choices.list(20, () => choices.below(1000));
    };
    expect(drawn(1, 5)).toEqual(drawn(1, 5));
    expect(drawn(1, 5)).not.toEqual(drawn(1, 6));
    expect(drawn(1, 5)).not.toEqual(drawn(2, 5));
  });

  it('damages files by seed and number', async () => {
    const good = Uint8Array.from({ length: 64 }, (_, i) => i);
    const damaged: Uint8Array[] = [];
    const { runCase } = damagedFiles({
      name: 'files',
      seeds: async () => [good],
      run: async (bytes) => void damaged.push(bytes),
    });
    for (const number of [4, 5]) await runCase({ seed: 2, number });
    expect(damaged).toEqual([4, 5].map((number) => mutation([good], { seed: 2, number })));
    expect(damaged[0]).not.toEqual(damaged[1]);
  });

  it('says what runs the case again that failed', async () => {
    const failing: Fuzzed = {
      name: 'failing',
      runCase({ number }) {
        if (number === 2) throw new RangeError('of no typed error');
      },
    };
    await expect(runCases(failing, { seed: 7, count: 5 })).rejects.toThrow(
      /^failing: npm run fuzz -- --only failing --seed 7 --case 2: RangeError: of no typed error$/,
    );
  });
});

describe('npm run fuzz', () => {
  const run = (...args: string[]) => {
    const program = join(import.meta.dirname, 'run.mjs');
    const formatsFile = join(import.meta.dirname, 'programs', 'ends.ts');
    const { stdout, stderr, status } = spawnSync(process.execPath, [program, '--formats', formatsFile, ...args], {
      encoding: 'utf8',
      env: { ...process.env, LAYERWISE_SANITIZE: 'address' },
    });
    return { lines: stdout.split('\n'), stderr, status };
  };

  it('tells of errors, and of cases that end the process, with what runs them again, and goes on', () => {
    const { lines, status } = run('--only', 'mortal', '--count', '10', '--seed', '3');
    expect(status).toBe(1);
    expect(lines).toContain('FAILED mortal, case 2: Error: of no typed error');
    expect(lines).toContain('FAILED mortal, case 4: SIGKILL');
    expect(lines).toContain('FAILED mortal, case 6: exit code 7');
    expect(lines).toContain('  again: npm run fuzz -- --sanitize address --only mortal --seed 3 --case 4');
    expect(lines.filter((line) => line.startsWith('FAILED'))).toHaveLength(3);
    expect(lines.some((line) => line.startsWith('mortal: 10 cases'))).toBe(true);
  });

  it('repeats one case alone', () => {
    expect(run('--only', 'mortal', '--case', '3').status).toBe(0);
    const { lines, status } = run('--only', 'mortal', '--case', '4');
    expect([status, lines[0]]).toEqual([1, 'FAILED mortal, case 4: SIGKILL']);
  });

  it('ends a case that never ends', () => {
    const { lines, status } = run('--only', 'endless', '--count', '1', '--limit', '3');
    expect([status, lines[0]]).toEqual([1, 'FAILED endless, case 0: no end after 3 s']);
  });

  it('refuses a format that there is not, and counts that are none', () => {
    const unknown = run('--only', 'x');
    expect([unknown.status, unknown.stderr]).toEqual([1, expect.stringContaining('expected one of mortal, endless')]);
    expect(run('--count', '1.5')).toMatchObject({
      status: 2,
      stderr: 'expected an integer from 0 for --count, got 1.5\n',
    });
  });
});
