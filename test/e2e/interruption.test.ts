// Ctrl-C and kill -9 through the command line: whatever happens to the process, the run ends with the same bits.
import { cpSync, existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Ended, jsonLines, layerwise, temporaryFolder } from '../cli/cli.js';
import { productOf } from '../training/runs.js';

const at = temporaryFolder();

/** Evaluation in small batches makes it a good part of the time, to be killed in. */
const CONFIG = at('config.json');
const flagsOf = (...flags: string[]): string[] => {
  writeFileSync(CONFIG, '{"evaluation": {"batchSize": 20}, "training": {"milestones": [2]}, "threads": 1}');
  return [
    ...['train', '--config', CONFIG, '--width', '8', '--layers', '2', '--epochs', '3', '--batch-size', '16'],
    ...['--train-limit', '300', '--test-limit', '200', '--device', 'cpu', '--json', ...flags],
  ];
};

const KINDS = [
  ['layer by layer, fp32', flagsOf('--precision', 'fp32')],
  ['layer by layer, bf16', flagsOf('--precision', 'bf16')],
  ['end to end with dropout, fp32', flagsOf('--preset', 'vgg11-end-to-end', '--precision', 'fp32')],
] as const;

const resume = (out: string, env = {}): Promise<Ended> => layerwise(['train', '--resume', out, '--json'], { env });

/** For the environment: the process sends itself these signals when it prints the nth event of this type. */
const signalledAt = (type: string, n: number, ...signals: NodeJS.Signals[]): Record<string, string> => ({
  NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(`
    import { isMainThread } from 'node:worker_threads';
    if (isMainThread) {
      const { write } = process.stdout;
      let seen = 0;
      process.stdout.write = function (text, ...rest) {
        const written = write.call(this, text, ...rest);
        if (text.startsWith('{"type":"${type}"') && ++seen === ${n}) {
          for (const signal of ${JSON.stringify(signals)}) process.kill(process.pid, signal);
        }
        return written;
      };
    }`)}`,
});

async function finish(out: string): Promise<Record<string, unknown>[]> {
  const { code, stdout, stderr } = await resume(out);
  expect([code, stderr]).toEqual([0, '']);
  return jsonLines(stdout);
}

describe.each(KINDS)('%s', (name, flags) => {
  const path = (part: string): string => at(`${name} ${part}`);
  beforeAll(async () => {
    expect(await layerwise([...flags, '--out', path('whole')])).toMatchObject({ code: 0, stderr: '' });
  });

  it('ends with the same bits after Ctrl-C in the middle of an epoch', async () => {
    const out = path('interrupted');
    const env = signalledAt('epoch', 1, name.includes('bf16') ? 'SIGHUP' : 'SIGINT');
    const { code, stderr, stdout } = await layerwise([...flags, '--out', out], { env });
    expect(code).toBe(130);
    expect(stderr).toBe(
      `Stopping after this step, with a checkpoint. Ctrl-C again stops at once.\nlayerwise: training was interrupted; go on with --resume ${out}\n`,
    );
    expect(jsonLines(stdout).at(-1)).toMatchObject({ type: 'checkpoint' });
    expect(existsSync(`${out}/result.json`)).toBe(false);

    const [started] = await finish(out);
    expect(started).toMatchObject({ type: 'start' });
    const { layer: _, ...position } = jsonLines(stdout).at(-1)!;
    expect(position.step).toBeGreaterThan(0);
    expect(started!.resumedFrom).toMatchObject({ epoch: position.epoch, step: position.step });
    expect(productOf(out)).toEqual(productOf(path('whole')));
  });

  it('ends with the same bits after kill -9, again and again', async () => {
    const out = path('killed');
    // Before anything is recorded; right after a checkpoint; right after an epoch, when its checkpoint is being written.
    const killed = { code: 'SIGKILL' };
    const env = signalledAt('start', 1, 'SIGKILL');
    expect(await layerwise([...flags, '--out', out], { env })).toMatchObject(killed);
    for (const [type, n] of [
      ['checkpoint', 1],
      ['epoch', 1],
      ['epoch', 2],
    ] as const) {
      expect(await resume(out, signalledAt(type, n, 'SIGKILL'))).toMatchObject(killed);
    }
    await finish(out);
    expect(productOf(out)).toEqual(productOf(path('whole')));
  });
});

describe('Ctrl-C', () => {
  it('as the terminal and npm send it, twice within a moment, is one wish', async () => {
    const out = at('twice');
    const env = signalledAt('epoch', 1, 'SIGINT', 'SIGINT');
    const { code, stderr } = await layerwise([...KINDS[0][1], '--out', out], { env });
    expect(code).toBe(130);
    expect(stderr).toContain('go on with --resume');
    expect(existsSync(`${out}/checkpoint/state.json`)).toBe(true);
  });
});

describe('resuming', () => {
  const [stopped, finished] = [at('stopped'), at('finished')];
  beforeAll(async () => {
    const env = signalledAt('epoch', 1, 'SIGTERM');
    expect(await layerwise([...KINDS[0][1], '--out', stopped], { env })).toMatchObject({ code: 130 });
    cpSync(stopped, finished, { recursive: true });
    await finish(finished);
  });

  it('a finished run tells its result and changes nothing', async () => {
    const before = productOf(finished);
    const events = await finish(finished);
    expect(events).toHaveLength(1);
    expect(events[0]).toMatchObject({ type: 'done', runDirectory: finished, report: `${finished}/report.html` });
    expect(productOf(finished)).toEqual(before);
    const plain = await layerwise(['train', '--resume', finished]);
    expect(plain).toMatchObject({ code: 0, stderr: `${finished} was finished before: nothing is left to train.\n` });
    expect(plain.stdout).toContain(`Open the report: ${finished}/report.html`);
  });

  it.each([
    ['state.json', 10, []],
    ['training-1.safetensors', 300, ['start']],
  ])('a run whose checkpoint/%s is cut off is refused by the name of the file', async (name, size, events) => {
    const out = at(`damaged ${name}`);
    cpSync(stopped, out, { recursive: true });
    const state = JSON.parse(readFileSync(`${out}/checkpoint/state.json`, 'utf8'));
    const file = `${out}/checkpoint/${name === 'state.json' ? name : state.current}`;
    truncateSync(file, size);
    const { code, stdout, stderr } = await resume(out);
    expect(code).toBe(1);
    expect(stderr).toContain(`layerwise: ${file}: `);
    expect(stderr).not.toContain('    at ');
    expect(stdout === '' ? [] : jsonLines(stdout).map(({ type }) => type)).toEqual(events);
  });
});
