// Signals and closed or full outputs in every command: one sentence, one exit code.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, openSync, readdirSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { endlessFolder } from '../data/images.js';
import { type Ended, layerwise, MAIN, type Started, servesSignals, start, TINY, temporaryFolder } from './cli.js';

const at = temporaryFolder();
const run = at('run');
let endless = '';
beforeAll(async () => {
  expect(await layerwise(['train', ...TINY, '--out', run])).toMatchObject({ code: 0 });
  endless = await endlessFolder(at('endless'));
});

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

async function interrupt(command: Started, signal: NodeJS.Signals = 'SIGINT'): Promise<Ended> {
  await servesSignals(command);
  command.process.kill(signal);
  return command.ended;
}

describe.runIf(process.platform === 'linux')('a signal', () => {
  it.each(SIGNALS)('%s while a training reads its images ends it with nothing written', async (signal) => {
    const out = at(`never ${signal}`);
    const command = start([
      'train',
      ...TINY,
      '--dataset',
      'folder',
      '--data-dir',
      endless,
      '--train-limit',
      '3000',
      '--out',
      out,
    ]);
    expect(await interrupt(command, signal)).toEqual({
      code: 130,
      stdout: '',
      stderr: 'layerwise: training was interrupted before anything was written: there is nothing to resume\n',
    });
    expect(existsSync(out)).toBe(false);
  });

  it.each([
    ['evaluate', SIGNALS, () => ['--run', run, '--dataset', 'folder', '--data-dir', endless]],
    ['probe', ['SIGINT'], () => ['--run', run, '--dataset', 'folder', '--data-dir', endless]],
    ['predict', ['SIGINT'], () => ['--run', run, ...Array(500).fill(join(endless, 'large.png'))]],
  ] as const)('ends %s', async (name, signals, argsFor) => {
    for (const signal of signals) {
      const { code, stderr } = await interrupt(start([name, ...argsFor()]), signal);
      expect([code, stderr]).toEqual([130, `layerwise: ${name} was interrupted; the same command begins anew\n`]);
    }
  });

  it.each([
    ['report', () => ['--run', run]],
    ['export', () => ['--run', run, '--to', at('exported', 'model.safetensors')]],
    ['doctor', () => []],
  ])('ends %s, unless it is over first, and leaves nothing half written', async (name, argsFor) => {
    const command = start([name, ...argsFor()]);
    const { code, stderr } = await interrupt(command);
    expect([130, 0, 1]).toContain(code);
    if (code === 130) expect(stderr).toBe(`layerwise: ${name} was interrupted; the same command begins anew\n`);
    expect(stderr).not.toContain('    at ');
    for (const file of readdirSync(run)) expect(file).not.toMatch(/partial|lock/);
  });

  it('ends a download', async () => {
    // A proxy that says nothing, so that the download waits for as long as it may.
    const proxy = createServer(() => {}).listen(0);
    const asked = once(proxy, 'connection');
    const { port } = proxy.address() as AddressInfo;
    const command = start(['data', 'download', 'cifar10', '--data-dir', at('data')], {
      env: { https_proxy: `http://127.0.0.1:${port}`, no_proxy: '', NO_PROXY: '' },
    });
    const [socket] = await asked;
    command.process.kill('SIGINT');
    expect(await command.ended).toEqual({
      code: 130,
      stdout: '',
      stderr: 'layerwise: the download was interrupted; the same command goes on from here\n',
    });
    expect(readdirSync(at('data'))).toEqual([]);
    socket.destroy();
    proxy.close();
  });
});

const COMMANDS: [string, () => string[]][] = [
  ['--help', () => ['--help']],
  ['doctor', () => ['doctor']],
  ['doctor --json', () => ['doctor', '--json']],
  ['evaluate', () => ['evaluate', '--run', run, '--per-class']],
  ['probe', () => ['probe', '--run', run, '--json']],
  ['predict', () => ['predict', '--run', run, join(endless, 'large.png')]],
  ['report', () => ['report', '--run', run]],
  ['export', () => ['export', '--run', run, '--to', at('model.safetensors')]],
];

/** A command whose standard output is a file, or a pipe whose reader has gone. */
async function withOutput(args: string[], output: number | 'closed'): Promise<[number | null, string]> {
  const child = spawn(process.execPath, [MAIN, ...args], {
    stdio: ['ignore', output === 'closed' ? 'pipe' : output, 'pipe'],
    env: { ...process.env, OMP_NUM_THREADS: '1' },
  });
  child.stdout?.destroy();
  let stderr = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code] = await once(child, 'close');
  return [code, stderr];
}

const fullDevice = existsSync('/dev/full') ? openSync('/dev/full', 'w') : null;

describe.runIf(fullDevice !== null)('standard output on a full disk', () => {
  const problem = 'layerwise: standard output could not be written: no space left on device (ENOSPC)';

  it.each(COMMANDS)('ends %s with 1 and one line', async (_, argsFor) => {
    expect(await withOutput(argsFor(), fullDevice!)).toEqual([1, `${problem}\n`]);
  });

  it.each([[[]], [['--json']]])('stops a training with a checkpoint, unlocked: %s', async (flags) => {
    const out = at(`full ${flags}`);
    const outcome = await withOutput(['train', ...TINY, ...flags, '--epochs', '20', '--out', out], fullDevice!);
    expect(outcome).toEqual([1, `${problem}; training was interrupted; go on with --resume ${out}\n`]);
    expect(readdirSync(out)).not.toContain('run.lock');
    expect(existsSync(join(out, 'checkpoint', 'state.json'))).toBe(true);
  });
});

describe('standard output that nobody reads any more', () => {
  it.each(COMMANDS)('ends %s with 1, without a word', async (_, argsFor) => {
    expect(await withOutput(argsFor(), 'closed')).toEqual([1, '']);
  });

  it('stops a training with a checkpoint', async () => {
    const out = at('closed');
    const [code, stderr] = await withOutput(['train', ...TINY, '--epochs', '20', '--json', '--out', out], 'closed');
    expect([code, stderr]).toEqual([
      1,
      `layerwise: standard output was closed; training was interrupted; go on with --resume ${out}\n`,
    ]);
    expect(readdirSync(out)).not.toContain('run.lock');
  });
});

it('an error that cannot be told, as standard error is full too, still has its exit code', async () => {
  const child = spawn(process.execPath, [MAIN, 'evaluate', '--run', at('nowhere')], {
    stdio: ['ignore', 'ignore', openSync('/dev/full', 'w')],
  });
  expect(await once(child, 'close')).toEqual([1, null]);
});
