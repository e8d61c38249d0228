// `--processes`: the launcher as a process of its own, over small programs that stand for the ranks.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type ProcessesOptions, withoutProcesses, withThreads } from '../../lib/cli/processes.js';
import { localVariables, readLaunch } from '../../lib/distributed/index.js';
import { type Ended, layerwise, temporaryFolder } from './cli.js';

const at = temporaryFolder();
const MODULE = pathToFileURL(join(import.meta.dirname, '..', '..', 'dist', 'cli', 'processes.js')).href;

const program = (code: string): string[] => ['--input-type=module', '--eval', code];

/**
 * What all ranks can do: be of one mind that all are ready, through files; and stay until a signal ends them. A rank that waits in vain
 * for a test that has failed ends after a minute.
 */
const RANK = (folder: string): string => `
  import { existsSync, writeFileSync } from 'node:fs';
  import { setTimeout as sleep } from 'node:timers/promises';
  const rank = Number(process.env.RANK);
  const size = Number(process.env.WORLD_SIZE);
  const file = (name) => ${JSON.stringify(folder)} + '/' + name;
  const mark = (name) => writeFileSync(file(name), '');
  const found = async (...names) => {
    for (const name of names) while (!existsSync(file(name))) await sleep(5);
  };
  const all = async (name) => {
    mark(name + rank);
    await found(...Array.from({ length: size }, (_, i) => name + i));
  };
  setTimeout(() => process.exit(99), 60_000).unref();
  const stay = () => setInterval(() => {}, 1000);
`;

interface Launcher {
  readonly pid: number;
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<Ended>;
}

type Given = Partial<Omit<ProcessesOptions, 'variables'>> & { readonly env?: Record<string, string> };

/** `rankCode` runs in every rank, behind what RANK gives it. */
function launch(rankCode: string, { env, ...options }: Given = {}, folder = at('')): Launcher {
  const given = { count: 2, program: process.execPath, args: program(RANK(folder) + rankCode), ...options };
  const code = `
    import { runProcesses } from ${JSON.stringify(MODULE)};
    process.exitCode = await runProcesses({ ...${JSON.stringify(given)}, variables: process.env });`;
  const child = spawn(process.execPath, program(code), { env: { ...process.env, ...env } });
  const text = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (part: string) => (text[name] += part));
  }
  child.stdin.end('a line for rank 0\n');
  return {
    pid: child.pid!,
    kill: (signal) => child.kill(signal),
    ended: once(child, 'close').then(([code, signal]) => ({ code: code ?? signal, ...text })),
  };
}

let folders = 0;
/** A folder for the files of one launch. */
function newFolder(): string {
  const folder = at(`launch ${folders++}`);
  mkdirSync(folder);
  return folder;
}

const lines = (text: string): string[] => text.split('\n').slice(0, -1);

async function found(...files: string[]): Promise<void> {
  for (const file of files) while (!existsSync(file)) await sleep(5);
}

it('gives each process its place, by which readLaunch knows it, and no other launcher’s', async () => {
  const names = ['RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT', 'SLURM_PROCID'];
  const { code, stdout, stderr } = await launch(
    `console.log(JSON.stringify(${JSON.stringify(names)}.map((name) => process.env[name] ?? null)));`,
    // As srun starts a job of one task.
    { count: 3, env: { SLURM_STEP_ID: '0', SLURM_PROCID: '0', SLURM_STEP_NUM_TASKS: '1', SLURM_LOCALID: '0' } },
  ).ended;
  expect(code).toBe(0);
  const [first] = lines(stdout).map((line) => JSON.parse(line) as unknown[]);
  const port = first![5];
  expect(Number(port)).toBeGreaterThan(0);
  expect(first).toEqual(['0', '3', '0', '3', '127.0.0.1', port, null]);
  expect(lines(stderr).sort()).toEqual([
    `rank 1: ["1","3","1","3","127.0.0.1","${port}",null]`,
    `rank 2: ["2","3","2","3","127.0.0.1","${port}",null]`,
  ]);
});

it.each([
  ['srun', { SLURM_STEP_ID: '3', SLURM_PROCID: '0', SLURM_STEP_NUM_TASKS: '1', SLURM_LOCALID: '0' }],
  ['mpirun', { OMPI_COMM_WORLD_RANK: '0', OMPI_COMM_WORLD_SIZE: '1', OMPI_COMM_WORLD_LOCAL_RANK: '0' }],
  ['mpiexec', { PMI_RANK: '0', PMI_SIZE: '1', MPI_LOCALRANKID: '0' }],
  [
    'torchrun',
    {
      ...{
        RANK: '0',
        WORLD_SIZE: '1',
        LOCAL_RANK: '0',
        MASTER_ADDR: 'node01',
        MASTER_PORT: '1',
        TORCHELASTIC_RUN_ID: 'x',
      },
      ...{ TORCHELASTIC_USE_AGENT_STORE: 'True', TORCHELASTIC_RESTART_COUNT: '1' },
    },
  ],
])('readLaunch is told by the variables, also under %s with one task', (_, variables) => {
  expect(readLaunch(variables)).toMatchObject({ worldSize: 1 });
  expect(readLaunch(localVariables(variables, { rank: 1, worldSize: 4, masterPort: 4711 }))).toEqual({
    ...{ launcher: 'torchrun', rank: 1, worldSize: 4, localRank: 1, masterAddress: '127.0.0.1', masterPort: 4711 },
    ...{ hostsStore: false, storePrefix: '', restarts: 0, mostRestarts: 0 },
  });
  expect(readLaunch(localVariables(variables, { rank: 0, worldSize: 4, masterPort: 4711 }))).toMatchObject({
    hostsStore: true,
  });
});

it('the flag is taken out of the arguments in both of its forms', () => {
  const rest = ['train', '--out', 'processes', '--seed', '2'];
  expect(withoutProcesses(['train', '--processes', '2', '--out', 'processes', '--seed', '2'])).toEqual(rest);
  expect(withoutProcesses(['train', '--out', 'processes', '--processes=2', '--seed', '2'])).toEqual(rest);
  expect(withoutProcesses([...rest, '--processes', '3', '--processes', '2'])).toEqual(rest);
  expect(withoutProcesses(rest)).toEqual(rest);
});

it('threads are shared, at least one each, unless OMP_NUM_THREADS says otherwise', () => {
  expect(withThreads({ PATH: '/bin' }, 3)).toEqual({ PATH: '/bin', OMP_NUM_THREADS: '3' });
  expect(withThreads({ OMP_NUM_THREADS: '' }, 0)).toEqual({ OMP_NUM_THREADS: '1' });
  expect(withThreads({ OMP_NUM_THREADS: '5' }, 3)).toEqual({ OMP_NUM_THREADS: '5' });
});

describe.concurrent('the processes of a launch', () => {
  it('rank 0 has standard input, output and error stream; the others’ lines come whole, behind their rank', async () => {
    const { code, stdout, stderr } = await launch(
      `
      if (rank === 0) {
        for await (const part of process.stdin) process.stdout.write(part);
        console.error('plain');
      } else {
        const text = 'é'.repeat(50) + rank;
        for (let i = 0; i < 300; i++) {
          const bytes = Buffer.from(text + ' ' + i + '\\n');
          // Within a character.
          process.stderr.write(bytes.subarray(0, 51));
          if (i % 50 === 0) await sleep(1);
          process.stderr.write(bytes.subarray(51));
        }
        console.log('on standard output');
        process.stderr.write('x'.repeat(300_000) + 'the end', () => process.exit());
      }`,
      { count: 3 },
    ).ended;
    expect([code, stdout]).toEqual([0, 'a line for rank 0\n']);
    const written = lines(stderr);
    for (const rank of [1, 2]) {
      const own = written.filter((line) => line.startsWith(`rank ${rank}: `)).map((line) => line.slice(8));
      const numbered = Array.from({ length: 300 }, (_, i) => `${'é'.repeat(50)}${rank} ${i}`);
      expect(own.filter((line) => line.startsWith('é'))).toEqual(numbered);
      expect(own.filter((line) => !line.startsWith('é')).sort()).toEqual([
        'on standard output',
        `${'x'.repeat(300_000)}the end`,
      ]);
    }
    expect(written.filter((line) => !line.startsWith('rank '))).toEqual(['plain']);
  });

  it('where one fails the others get SIGTERM after the grace; the code is that of the first', async () => {
    const { code, stdout, stderr } = await launch(
      `
      process.on('SIGTERM', () => {
        console.log('SIGTERM');
        process.exit(5);
      });
      await all('ready');
      if (rank === 1) process.exit(3);
      stay();`,
      { count: 3, graceMs: 100, killMs: 60_000 },
      newFolder(),
    ).ended;
    expect([code, stdout]).toEqual([3, 'SIGTERM\n']);
    expect(lines(stderr)).toEqual([
      'layerwise: rank 1 ended with exit code 3, without a word',
      'layerwise: ranks 0, 2 still run after 0.1 s: SIGTERM',
      'rank 2: SIGTERM',
    ]);
  });

  it('what SIGTERM does not end is killed', async () => {
    const { code, stderr } = await launch(
      `
      process.on('SIGTERM', () => {});
      await all('ready');
      if (rank === 0) process.exit(6);
      stay();`,
      { graceMs: 1, killMs: 100 },
      newFolder(),
    ).ended;
    expect([code, stderr]).toEqual([6, 'layerwise: rank 1 still runs after 0.001 s: SIGTERM\n']);
  });

  it('others that end by themselves within the grace are not disturbed', async () => {
    const { code, stderr } = await launch(
      `
      process.on('SIGTERM', () => console.error('SIGTERM'));
      await all('ready');
      if (rank === 1) {
        console.error('no more');
        process.exit(4);
      }
      await sleep(300);
      console.error('a rank is missing');
      process.exit(1);`,
      {},
      newFolder(),
    ).ended;
    expect([code, lines(stderr)]).toEqual([4, ['rank 1: no more', 'a rank is missing']]);
  });

  it.each(['SIGKILL', 'SIGALRM'] as const)(
    'a process ended by %s is told of, and its code is 128 and the signal',
    async (signal) => {
      const { code, stderr } = await launch(`if (rank === 1) process.kill(process.pid, '${signal}');`).ended;
      expect([code, stderr]).toEqual(
        signal === 'SIGKILL'
          ? [137, 'layerwise: rank 1 was killed (SIGKILL), perhaps since memory ran out\n']
          : [142, 'layerwise: rank 1 was ended by SIGALRM\n'],
      );
    },
  );

  it('a program that cannot be started is told of, and no further one is tried', async () => {
    const { code, stderr } = await launch('', { count: 1000, program: at('nowhere') }).ended;
    expect([code, stderr]).toEqual([1, `layerwise: rank 0 could not be started: spawn ${at('nowhere')} ENOENT\n`]);
  });

  it('what a rank leaves running does not keep the launcher', async () => {
    const folder = newFolder();
    const { code, stderr } = await launch(
      `
      import { spawn } from 'node:child_process';
      if (rank === 1) {
        const left = spawn(process.execPath, ['--eval', 'setTimeout(() => {}, 60_000)'], { detached: true, stdio: 'inherit' });
        writeFileSync(file('left'), String(left.pid));
        left.unref();
        process.stderr.write('said');
      }`,
      { drainMs: 200 },
      folder,
    ).ended;
    process.kill(Number(readFileSync(join(folder, 'left'), 'utf8')), 'SIGKILL');
    expect([code, stderr]).toEqual([0, 'rank 1: said\n']);
  });

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    '%s reaches every rank once; all are waited for',
    async (signal) => {
      const folder = newFolder();
      const launcher = launch(
        `
      let signals = 0;
      for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, () => {
        if (++signals > 1) return;
        setTimeout(() => {
          console.error('stopped after ' + signals);
          process.exit(130);
        }, 50 + 50 * rank);
      });
      mark('ready' + rank);
      stay();`,
        // None fails: there is nothing to hurry.
        { graceMs: 1, killMs: 1 },
        folder,
      );
      await found(join(folder, 'ready0'), join(folder, 'ready1'));
      launcher.kill(signal);
      const { code, stderr } = await launcher.ended;
      expect([code, lines(stderr).sort()]).toEqual([130, ['rank 1: stopped after 1', 'stopped after 1']]);
    },
  );

  it('ranks that a signal ends before they listen are interrupted, and one that fails all the same has its code', async () => {
    for (const [code, ending] of [
      [130, ''],
      [7, "process.on('SIGTERM', () => process.exit(rank === 0 ? 7 : 130));"],
      [0, "process.on('SIGTERM', () => process.exit(0));"],
    ] as const) {
      const folder = newFolder();
      const launcher = launch(`${ending} mark('ready' + rank); stay();`, {}, folder);
      await found(join(folder, 'ready0'), join(folder, 'ready1'));
      launcher.kill('SIGINT');
      expect(await launcher.ended).toEqual({ code, stdout: '', stderr: '' });
    }
  });

  it('a second signal ends all at once, what does not hear it too', async () => {
    const folder = newFolder();
    const launcher = launch(
      `
      let signals = 0;
      process.on('SIGTERM', () => {
        mark('heard' + rank);
        if (++signals === 2 && rank === 0) process.exit(130);
      });
      mark('ready' + rank);
      stay();`,
      {},
      folder,
    );
    await found(join(folder, 'ready0'), join(folder, 'ready1'));
    launcher.kill('SIGINT');
    await found(join(folder, 'heard0'), join(folder, 'heard1'));
    // Two wishes, not one.
    await sleep(600);
    launcher.kill('SIGINT');
    expect(await launcher.ended).toEqual({ code: 130, stdout: '', stderr: '' });
  });

  it('where the launcher is killed its ranks end as at SIGTERM, and what stays as at a second one', async () => {
    const folder = newFolder();
    const launcher = launch(
      `
      const { endWithLauncher } = await import(${JSON.stringify(MODULE)});
      // Rank 2 hears of it when it looks: the launcher has gone by then.
      mark('began' + rank);
      if (rank === 2) await found('gone');
      let signals = 0;
      process.on('SIGTERM', () => {
        if (++signals === 2 || rank !== 1) {
          mark('ended' + rank + ' at ' + signals);
          process.exit(130);
        }
      });
      endWithLauncher(200);
      if (process.env.LAYERWISE_LAUNCHED !== undefined) process.exit(1);
      mark('ready' + rank);
      stay();`,
      { count: 3 },
      folder,
    );
    await found(...['ready0', 'ready1', 'began2'].map((name) => join(folder, name)));
    launcher.kill('SIGKILL');
    expect((await launcher.ended).code).toBe('SIGKILL');
    writeFileSync(join(folder, 'gone'), '');
    await found(...['ended0 at 1', 'ended1 at 2', 'ended2 at 1'].map((name) => join(folder, name)));
  });

  it('to watch for the launcher’s end keeps no rank running', async () => {
    const { code, stderr } = await launch(
      `const { endWithLauncher } = await import(${JSON.stringify(MODULE)}); endWithLauncher();`,
    ).ended;
    expect([code, stderr]).toEqual([0, '']);
  });

  it('a process whose channel is another’s does not end with it', async () => {
    const code = `
      import { endWithLauncher } from ${JSON.stringify(MODULE)};
      endWithLauncher();
      process.once('disconnect', () => setTimeout(() => console.log('goes on'), 50));
      process.send('ready');`;
    const child = spawn(process.execPath, program(code), { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] });
    let stdout = '';
    child.stdout!.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    const ended = Promise.all([once(child, 'exit'), once(child.stdout!, 'close')]);
    await once(child, 'message');
    child.disconnect();
    const [exit] = await ended;
    expect([exit, stdout]).toEqual([[0, null], 'goes on\n']);
  });
});

describe.concurrent('the command line', () => {
  it.each([
    [['--processes', '0'], {}, 'Expected an integer from 1 to 1024, got "0".'],
    [['--processes=x'], {}, 'Expected an integer from 1 to 1024, got "x".'],
    [
      ['--processes', '2'],
      { RANK: '0', WORLD_SIZE: '2', LOCAL_RANK: '0', MASTER_ADDR: '127.0.0.1' },
      'layerwise: --processes 2: expected a process that no launcher has started, got rank 0 of 2 by the variables of torchrun;',
    ],
  ])('layerwise train %j %j is a usage error', async (flags, env, message) => {
    const { code, stdout, stderr } = await layerwise(['train', ...flags, '--out', at('never')], { env });
    expect(stderr).toContain(message);
    expect([code, stdout, existsSync(at('never'))]).toEqual([2, '', false]);
  });

  it('layerwise train --processes N starts the same command N times, without LibTorch of its own', async () => {
    // Each process says at its end whether it has LibTorch.
    const says = `
      import { readFileSync } from 'node:fs';
      import { isMainThread } from 'node:worker_threads';
      if (isMainThread) process.on('exit', () => {
        if (process.env.RANK === undefined) console.error('launcher', readFileSync('/proc/self/maps', 'utf8').includes('libtorch'));
        else console.error(JSON.stringify(process.argv.slice(2)));
      });`;
    const { code, stdout, stderr } = await layerwise(['train', '--processes=2', '--config', at('none.json')], {
      env: { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(says)}` },
    });
    expect([code, stdout]).toEqual([2, '']);
    const told = lines(stderr);
    const args = JSON.stringify(['train', '--config', at('none.json')]);
    expect(told.filter((line) => line.endsWith(args)).sort()).toEqual([args, `rank 1: ${args}`].sort());
    expect(told.filter((line) => /^(rank 1: )?layerwise: --config: /.test(line))).toHaveLength(2);
    if (process.platform === 'linux') expect(told.at(-1)).toBe('launcher false');
  });

  it('layerwise train --processes 1 is layerwise train, with --resume too', async () => {
    const { code, stderr } = await layerwise(['train', '--processes', '1', '--resume', at('nowhere')]);
    expect(code).toBe(1);
    expect(stderr).toContain('expected a run directory');
    expect(stderr).not.toContain('rank');
  });
});
