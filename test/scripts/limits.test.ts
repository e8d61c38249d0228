// What a process may use, by affinity and control groups: in /proc and /sys as containers and batch systems present
// them, and in a control group made for the test, where the machine lets one be made.
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { compileJobs } from '../../scripts/setup/addon.mjs';
import { memoryLimits, processorLimits } from '../../scripts/support/limits.mjs';
import { onOneCore } from '../support/one-core.js';
import { root, temporaryFolder } from './scripts.js';

const GIB = 2 ** 30;
/** What version 1 writes for no limit: the largest multiple of a page in 63 bits. */
const NONE_V1 = '9223372036854771712';

/** A folder with these files in it, for /. */
function system(files: Record<string, string | number>): string {
  const folder = temporaryFolder();
  const meminfo = `MemTotal: ${64 * 2 ** 20} kB\nMemAvailable: ${40 * 2 ** 20} kB\n`;
  for (const [name, content] of Object.entries({ 'proc/meminfo': meminfo, ...files })) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), `${content}\n`);
  }
  return folder;
}

const limitsOf = (files: Record<string, string | number>) => {
  const options = { root: system(files), machine: 16, affinity: 16 };
  const { quota, usable } = processorLimits(options);
  const { limit, available } = memoryLimits({ ...options, machine: 64 * GIB });
  return { quota, usable, limit, available: available / GIB };
};

const mountV2 = (mountRoot = '/', point = '/sys/fs/cgroup') =>
  `22 1 0:5 / /proc rw - proc proc rw\n30 23 0:26 ${mountRoot} ${point} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate`;

describe('version 2', () => {
  it('without any limit everything is usable, and MemAvailable is what is left', () => {
    const files = { 'proc/self/cgroup': '0::/', 'proc/self/mountinfo': mountV2() };
    expect(limitsOf(files)).toEqual({ quota: null, usable: 16, limit: null, available: 40 });
  });

  it('"max" is no limit', () => {
    const files = {
      'proc/self/cgroup': '0::/user.slice',
      'proc/self/mountinfo': mountV2(),
      'sys/fs/cgroup/user.slice/cpu.max': 'max 100000',
      'sys/fs/cgroup/user.slice/memory.max': 'max',
      'sys/fs/cgroup/user.slice/memory.high': 'max',
    };
    expect(limitsOf(files)).toEqual({ quota: null, usable: 16, limit: null, available: 40 });
  });

  it('a container (docker run --cpus 2.5 --memory 4g) sees its own group as the root; cached files count as available', () => {
    const files = {
      'proc/self/cgroup': '0::/',
      'proc/self/mountinfo': mountV2(),
      'sys/fs/cgroup/cpu.max': '250000 100000',
      'sys/fs/cgroup/memory.max': 4 * GIB,
      'sys/fs/cgroup/memory.current': 3 * GIB,
      'sys/fs/cgroup/memory.stat': `anon ${GIB}\nfile ${2 * GIB}\ninactive_file ${2 * GIB}`,
    };
    expect(limitsOf(files)).toEqual({ quota: 2.5, usable: 2, limit: 4 * GIB, available: 3 });
  });

  it('a limit of a slice above holds for what runs in it, and the lowest wins', () => {
    const slice = 'sys/fs/cgroup/batch.slice';
    const files = {
      'proc/self/cgroup': '0::/batch.slice/job-7.scope/step',
      'proc/self/mountinfo': mountV2(),
      [`${slice}/cpu.max`]: '400000 100000',
      [`${slice}/job-7.scope/cpu.max`]: '300000 50000',
      [`${slice}/job-7.scope/step/cpu.max`]: 'max 100000',
      [`${slice}/memory.high`]: 8 * GIB,
      [`${slice}/memory.current`]: 6 * GIB,
      [`${slice}/job-7.scope/memory.max`]: 10 * GIB,
      [`${slice}/job-7.scope/memory.current`]: 2 * GIB,
    };
    expect(limitsOf(files)).toEqual({ quota: 4, usable: 4, limit: 8 * GIB, available: 2 });
  });

  it('less than one processor is one; a usage above the limit leaves nothing', () => {
    const files = {
      'proc/self/cgroup': '0::/',
      'proc/self/mountinfo': mountV2(),
      'sys/fs/cgroup/cpu.max': '20000 100000',
      'sys/fs/cgroup/memory.max': GIB,
      'sys/fs/cgroup/memory.current': 2 * GIB,
    };
    expect(limitsOf(files)).toEqual({ quota: 0.2, usable: 1, limit: GIB, available: 0 });
  });

  it("the host's path of a container's group, mounted as the whole hierarchy, and a mount point with a space", () => {
    const files = {
      'proc/self/cgroup': '0::/kubepods/pod1/inner',
      'proc/self/mountinfo': mountV2('/kubepods/pod1', '/sys/c\\040group'),
      'sys/c group/cpu.max': '200000 100000',
      'sys/c group/inner/cpu.max': '300000 100000',
    };
    expect(limitsOf(files)).toMatchObject({ quota: 2, usable: 2 });
  });

  it('a group outside of the namespace is looked for at the mount point', () => {
    const files = {
      'proc/self/cgroup': '0::/../other',
      'proc/self/mountinfo': mountV2('/..'),
      'sys/fs/cgroup/cpu.max': '500000 100000',
    };
    expect(limitsOf(files)).toMatchObject({ quota: 5, usable: 5 });
  });
});

describe('version 1', () => {
  const mounts = (at: string) =>
    [
      `32 31 0:29 ${at} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct`,
      `35 31 0:32 ${at} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory`,
      '41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
    ].join('\n');
  const groups = (path: string) => `11:memory:${path}\n4:cpu,cpuacct:${path}\n1:name=systemd:${path}\n0::${path}`;

  it('a container under docker', () => {
    const files = {
      'proc/self/cgroup': groups('/docker/f00'),
      'proc/self/mountinfo': mounts('/docker/f00'),
      'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': 150_000,
      'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us': 50_000,
      'sys/fs/cgroup/memory/memory.limit_in_bytes': 2 * GIB,
      'sys/fs/cgroup/memory/memory.usage_in_bytes': 1.5 * GIB,
      'sys/fs/cgroup/memory/memory.stat': `cache 1\ninactive_file 1\ntotal_inactive_file ${GIB}`,
    };
    expect(limitsOf(files)).toEqual({ quota: 3, usable: 3, limit: 2 * GIB, available: 1.5 });
  });

  it('-1 and the largest number are no limits, and a limit above holds', () => {
    const files = {
      'proc/self/cgroup': groups('/slurm/job'),
      'proc/self/mountinfo': mounts('/'),
      'sys/fs/cgroup/cpu,cpuacct/slurm/job/cpu.cfs_quota_us': -1,
      'sys/fs/cgroup/cpu,cpuacct/slurm/job/cpu.cfs_period_us': 100_000,
      'sys/fs/cgroup/memory/slurm/job/memory.limit_in_bytes': NONE_V1,
      'sys/fs/cgroup/memory/slurm/memory.limit_in_bytes': 16 * GIB,
      'sys/fs/cgroup/memory/slurm/memory.usage_in_bytes': 12 * GIB,
    };
    expect(limitsOf(files)).toEqual({ quota: null, usable: 16, limit: 16 * GIB, available: 4 });
  });
});

it('without /proc there is no quota, and the affinity counts', () => {
  const folder = temporaryFolder();
  expect(processorLimits({ root: folder, machine: 8, affinity: 3 })).toEqual({
    machine: 8,
    affinity: 3,
    quota: null,
    usable: 3,
  });
  expect(memoryLimits({ root: folder, machine: 64 * GIB }).limit).toBeNull();
});

it('as many files are compiled at a time as processors and memory allow, at least one', () => {
  expect(compileJobs({ processors: 16, memory: 64 * GIB })).toBe(16);
  expect(compileJobs({ processors: 16, memory: 3 * GIB })).toBe(3);
  expect(compileJobs({ processors: 16, memory: 0.25 * GIB })).toBe(1);
});

describe('of this machine', () => {
  const code = `const { memoryLimits, processorLimits } = await import(process.argv[1]);
    console.log(JSON.stringify({ ...processorLimits(), memory: memoryLimits() }));`;
  const args = ['--input-type=module', '-e', code, new URL('../../scripts/support/limits.mjs', import.meta.url).href];

  it.runIf(process.platform === 'linux')('an affinity to one processor leaves one', () => {
    const [command, ...rest] = [...onOneCore!, process.execPath, ...args];
    const { usable, affinity } = JSON.parse(execFileSync(command!, rest, { encoding: 'utf8' }));
    expect([usable, affinity]).toEqual([1, 1]);
  });

  it('the limits of a control group above hold, also for what features take by default', (context) => {
    const made = makeGroups();
    if (typeof made === 'string') return context.skip(made);
    const enter = made.groups.map((group) => `echo $$ > "${group}/cgroup.procs"`).join(' && ');
    const inside = (...command: string[]) =>
      execFileSync('sh', ['-c', `${enter} && exec "$0" "$@"`, process.execPath, ...command], { encoding: 'utf8' });
    const told = JSON.parse(inside(...args));
    expect(told).toMatchObject({ quota: 0.5, usable: 1, memory: { limit: GIB } });
    expect(told.memory.available).toBeGreaterThan(0);
    expect(told.memory.available).toBeLessThanOrEqual(GIB);
    const plan = pathToFileURL(join(root, 'dist', 'features', 'cache-plan.js')).href;
    const budget = `const { resolveCacheBudget } = await import(process.argv[1]);
      console.log(resolveCacheBudget(undefined, 'cpu').host);`;
    expect(Number(inside('--input-type=module', '-e', budget, plan))).toBeLessThanOrEqual(GIB / 4);
  });
});

/**
 * A group with half a processor and 1 GiB, and one without limits in it, for each controller: the inner ones, which a
 * process can enter. Or the reason why there are none.
 */
function makeGroups(): { groups: string[] } | string {
  const name = `layerwise-test-${process.pid}`;
  const v1 = [
    { folder: `/sys/fs/cgroup/cpu/${name}`, limits: { 'cpu.cfs_quota_us': '50000', 'cpu.cfs_period_us': '100000' } },
    { folder: `/sys/fs/cgroup/memory/${name}`, limits: { 'memory.limit_in_bytes': String(GIB) } },
  ];
  const v2 = [{ folder: `/sys/fs/cgroup/${name}`, limits: { 'cpu.max': '50000 100000', 'memory.max': String(GIB) } }];
  const reasons: string[] = [];
  for (const groups of [v1, v2]) {
    try {
      for (const { folder, limits } of groups) {
        mkdirSync(folder);
        onTestFinished(() => rmdirSync(folder));
        for (const [file, value] of Object.entries(limits)) writeFileSync(join(folder, file), value, { flag: 'r+' });
        mkdirSync(join(folder, 'inner'));
        onTestFinished(() => rmdirSync(join(folder, 'inner')));
      }
      return { groups: groups.map(({ folder }) => join(folder, 'inner')) };
    } catch (error) {
      reasons.push((error as Error).message);
    }
  }
  return `no control group can be made here: ${reasons.join('; ')}`;
}
