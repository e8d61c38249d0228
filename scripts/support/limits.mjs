// What this process may use of the machine: in a container or under a batch system less than the host has. Plain Node,
// because set-up and the doctor run before there are dependencies.

import { availableParallelism, cpus, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { readText } from './files.mjs';

/**
 * @typedef {object} ProcessorLimits
 * @property {number} machine processors of the machine
 * @property {number} affinity those that the scheduler may use for this process
 * @property {number | null} quota processors' worth of time that control groups allow; null without a quota
 * @property {number} usable whole processors that this process may keep busy, at least 1
 */

/**
 * Bytes.
 * @typedef {object} MemoryLimits
 * @property {number} machine memory of the machine
 * @property {number | null} limit the lowest limit of a control group that holds this process; null without one
 * @property {number} available what this process can still allocate
 */

/**
 * `root`: where /proc and /sys are (default: /).
 * @typedef {{ readonly root?: string }} LimitsOptions
 */

/**
 * A control group as it is mounted here; `version` is 1 or 2.
 * @typedef {{ version: number, controllers: string[], folder: string }} ControlGroup
 */

/**
 * Processors that this process may keep busy, by affinity and control groups: a whole number, at least 1.
 * @param {LimitsOptions} [options]
 */
export function usableProcessors(options) {
  return processorLimits(options).usable;
}

/**
 * Bytes that this process can still allocate before the machine or its control group runs out.
 * @param {LimitsOptions} [options]
 */
export function availableMemory(options) {
  return memoryLimits(options).available;
}

/**
 * @param {LimitsOptions & { readonly machine?: number, readonly affinity?: number }} [options]
 * @returns {ProcessorLimits}
 */
export function processorLimits({ root = '/', machine = cpus().length, affinity = availableParallelism() } = {}) {
  const quotas = controlGroups(root).flatMap(({ version, controllers, folder }) => {
    if (version === 2) return [ratio(readText(join(folder, 'cpu.max')))];
    if (!controllers.includes('cpu')) return [];
    return [ratio(['cpu.cfs_quota_us', 'cpu.cfs_period_us'].map((name) => readText(join(folder, name))).join(' '))];
  });
  const quota = smallest(quotas);
  return { machine, affinity, quota, usable: Math.max(1, Math.min(affinity, Math.floor(quota ?? affinity))) };
}

/**
 * Memory that the kernel can drop, such as cached files, counts as available, although it is part of a group's usage.
 * @param {LimitsOptions & { readonly machine?: number }} [options]
 * @returns {MemoryLimits}
 */
export function memoryLimits({ root = '/', machine = totalmem() } = {}) {
  const groups = controlGroups(root)
    .flatMap((group) => memoryOfGroup(group) ?? [])
    .filter(({ limit }) => limit < machine);
  const limit = smallest(groups.map((group) => group.limit));
  const free = /^MemAvailable:\s*(\d+) kB$/m.exec(readText(join(root, 'proc/meminfo')))?.[1];
  // Without /proc, as on macOS, Node's own figure.
  const ofMachine = free === undefined ? Math.min(machine, process.availableMemory()) : Number(free) * 1024;
  const left = groups.map(({ limit, used, droppable }) => Math.max(0, limit - Math.max(0, used - droppable)));
  return { machine, limit, available: Math.min(ofMachine, ...left) };
}

/**
 * The limit, the usage and the part of it that the kernel can drop, of one control group; undefined without a limit.
 * @param {ControlGroup} group
 */
function memoryOfGroup({ version, controllers, folder }) {
  /** @param {string} name */
  const read = (name) => readText(join(folder, name)).trim();
  /** @param {string} name */
  const bytes = (name) => (/^\d+$/.test(read(name)) ? Number(read(name)) : null);
  /** @param {string} name */
  const counted = (name) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(read('memory.stat'))?.[1] ?? 0);
  if (version === 1) {
    const limit = controllers.includes('memory') ? bytes('memory.limit_in_bytes') : null;
    if (limit === null) return undefined;
    return { limit, used: bytes('memory.usage_in_bytes') ?? 0, droppable: counted('total_inactive_file') };
  }
  // Above memory.high a group is not ended, but slowed down until it stands still.
  const limit = smallest([bytes('memory.max'), bytes('memory.high')]);
  if (limit === null) return undefined;
  return { limit, used: bytes('memory.current') ?? 0, droppable: counted('inactive_file') };
}

/**
 * Quota and period in microseconds; "max" and -1 mean no quota.
 * @param {string} text
 */
function ratio(text) {
  const [quota = 0, period = 0] = text.trim().split(/\s+/).map(Number);
  return quota > 0 && period > 0 ? quota / period : null;
}

/**
 * The control groups that hold this process, each with all those above it, as far as they are mounted here: a limit of
 * any of them holds. None on a system without them.
 * @param {string} root
 * @returns {ControlGroup[]}
 */
function controlGroups(root) {
  const mounts = readText(join(root, 'proc/self/mountinfo')).split('\n').flatMap(parseMount);
  const memberships = readText(join(root, 'proc/self/cgroup')).split('\n').flatMap(parseMembership);
  return memberships.flatMap(({ version, controllers, path }) => {
    const mount = mounts.find(
      (one) => one.version === version && controllers.every((name) => one.options.includes(name)),
    );
    if (mount === undefined) return [];
    return groupsAbove(inside(mount.root, path)).map((group) => {
      return { version, controllers, folder: join(root, mount.point, group) };
    });
  });
}

/**
 * `hierarchy:controllers:path`, where version 2 has hierarchy 0 and no controllers.
 * @param {string} line
 */
function parseMembership(line) {
  const found = /^(\d+):([^:]*):(\/.*)$/.exec(line);
  if (found === null) return [];
  const [, hierarchy, names, path] = found;
  return [{ version: hierarchy === '0' ? 2 : 1, controllers: names.split(',').filter((name) => name !== ''), path }];
}

/**
 * A line of mountinfo, see proc(5): `id parent device root point options - type source super-options`.
 * @param {string} line
 */
function parseMount(line) {
  const [left, right] = line.split(' - ');
  const [, , , root, point] = left.split(' ').map(unescapeMount);
  const [type, , options = ''] = right?.split(' ') ?? [];
  if (type !== 'cgroup' && type !== 'cgroup2') return [];
  return [{ version: type === 'cgroup2' ? 2 : 1, options: options.split(','), root, point }];
}

/**
 * mountinfo writes white space and backslashes in octal.
 * @param {string} text
 */
function unescapeMount(text) {
  return text.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/**
 * A group's path below what is mounted. A container sees the host's path of its group, with that group mounted as the
 * whole hierarchy; what lies outside of it is not to be seen.
 * @param {string} mountRoot
 * @param {string} path
 */
function inside(mountRoot, path) {
  if (path.startsWith('/..') || mountRoot.startsWith('/..')) return '/';
  if (mountRoot === '/') return path;
  return path.startsWith(`${mountRoot}/`) ? path.slice(mountRoot.length) : '/';
}

/**
 * @param {string} path
 * @returns {string[]}
 */
function groupsAbove(path) {
  const above = dirname(path);
  return above === path ? [path] : [path, ...groupsAbove(above)];
}

/** @param {(number | null)[]} values */
function smallest(values) {
  const numbers = values.filter((value) => value !== null);
  return numbers.length === 0 ? null : Math.min(...numbers);
}
