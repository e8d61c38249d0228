// Signals and closed or full outputs in every command: one sentence, one exit code.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, openSync, readdirSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { endlessFolder } from '../data/images.js';
import {
  type Ended,
  layerwise,
  MAIN,
  readsIn,
  type Started,
  servesSignals,
  start,
  TINY,
  temporaryFolder,
} from './cli.js';

const at = temporaryFolder();
const run = at('run');
let endless = '';
beforeAll(async () => {
  expect(await layerwise(['train', ...TINY, '--out', run])).toMatchObject({ code: 0 });
  endless = await endlessFolder(at('endless'));
});

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** From the first moment at which a signal is served, when the command itself is not loaded yet; or at its work. */
async function interrupt(
  command: Started,
  signal: NodeJS.Signals = 'SIGINT',
  isReady: (command: Started) => Promise<void> = servesSignals,
): Promise<Ended> {
  await isReady(command);
  command.process.kill(signal);
  return command.ended;
}

describe.runIf(process.platform === 'linux')('a signal', () => {
  const readsEndless = (command: Started): Promise<void> => readsIn(endless, command);

  it.each([
    ...SIGNALS.map((signal) => [signal, 'is loaded', servesSignals] as const),
    ...SIGNALS.map((signal) => [signal, 'reads its images', readsEndless] as const),
  ])('%s while a training %s ends it with nothing written', async (signal, what, isReady) => {
    const out = at(`never ${signal} ${what}`);
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
    expect(await interrupt(command, signal, isReady)).toEqual({
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
      for (const isReady of [servesSignals, readsEndless]) {
        const { code, stdout, stderr } = await interrupt(start([name, ...argsFor()]), signal, isReady);
        const sentence = `layerwise: ${name} was interrupted; the same command begins anew\n`;
        expect([code, name === 'predict' ? '' : stdout, stderr]).toEqual([130, '', sentence]);
      }
    }
  });

  it.each([
    ['report', () => ['--run', run]],
    ['export', () => ['--run', run, '--to', at('never.safetensors')]],
    ['doctor', () => []],
    ['plan', () => TINY],
  ])('ends %s before it begins', async (name, argsFor) => {
    const sentence = `layerwise: ${name} was interrupted; the same command begins anew\n`;
    for (const signal of SIGNALS) {
      expect(await interrupt(start([name, ...argsFor()]), signal)).toEqual({ code: 130, stdout: '', stderr: sentence });
    }
    expect(existsSync(at('never.safetensors'))).toBe(false);
    for (const file of readdirSync(run)) expect(file).not.toMatch(/partial|lock/);
  });

  /** For the environment: the main thread runs this when Node has started. */
  const preload = (code: string): Record<string, string> => ({
    NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(`
      import { isMainThread } from 'node:worker_threads';
      if (isMainThread) { ${code} }`)}`,
  });

  it.each(SIGNALS)('%s is served before there is a command', async (signal) => {
    const commander = JSON.stringify(import.meta.resolve('commander'));
    const env = preload(`
      const { Command } = await import(${commander});
      const { parseAsync } = Command.prototype;
      Command.prototype.parseAsync = async function (...args) {
        // Waiting for a signal alone keeps no process running.
        const running = setInterval(() => {}, 1000);
        const served = new Promise((resolve) => process.once('${signal}', resolve));
        process.kill(process.pid, '${signal}');
        await served;
        clearInterval(running);
        return parseAsync.apply(this, args);
      };`);
    expect(await layerwise(['report', '--run', run], { env })).toEqual({
      code: 130,
      stdout: '',
      stderr: 'layerwise: report was interrupted; the same command begins anew\n',
    });
    const help = await layerwise(['--help'], { env });
    expect([help.code, help.stderr]).toEqual([130, 'layerwise: interrupted while no command was at work\n']);
  });

  it.each(SIGNALS)('%s does not kill a process whose work is done', async (signal) => {
    const env = preload(`process.on('beforeExit', () => process.kill(process.pid, '${signal}'));`);
    for (const args of [
      ['--help'],
      ['report', '--run', run],
      ['export', '--run', run, '--to', at('done.safetensors')],
    ]) {
      expect(await layerwise(args, { env })).toMatchObject({ code: 0, stderr: '' });
    }
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
