import { cpus, release, type } from 'node:os';
import { parseArgs } from 'node:util';
import { describeAddon } from './doctor/addon.mjs';
import { judge, judgeCuda } from './doctor/findings.mjs';
import { describeProcesses } from './doctor/processes.mjs';
import { describeTurboJpeg } from './doctor/turbojpeg.mjs';
import { readResolved } from './libtorch/resolved.mjs';
import { describePlatform, platformProblem } from './setup/platform.mjs';
import { checkPrerequisites } from './setup/prerequisites.mjs';
import { codeOf, reasonOf, systemReason } from './support/errors.mjs';
import { readText } from './support/files.mjs';
import { memoryLimits, processorLimits } from './support/limits.mjs';
import { isMain } from './support/main.mjs';
import { doctorCommand, isPackage, setUpCommand } from './support/paths.mjs';
import { isProved, nvidiaDriverSign, nvidiaDriverVersion, platformKey, visibleGpus } from './support/platform.mjs';
import { jpegScaling } from './support/turbojpeg.mjs';

/** @import { PlatformProblem } from './setup/platform.mjs' */
/** @import { ToolCheck } from './setup/prerequisites.mjs' */
/** @import { MemoryLimits, ProcessorLimits } from './support/limits.mjs' */
/** @import { Addon } from './doctor/addon.mjs' */
/** @import { Processes } from './doctor/processes.mjs' */
/** @import { Environment } from './support/paths.mjs' */
/** @import { Gpu } from './support/platform.mjs' */

/**
 * @typedef {object} Finding
 * @property {'error' | 'warning'} level error: training cannot work; warning: it works, with less than the machine could give
 * @property {string} subject
 * @property {string} reason
 * @property {string | undefined} mend what to type or change, where there is such a thing
 */

/**
 * What was found; `problem` of the platform is why LibTorch cannot be had for it.
 * @typedef {object} Facts
 * @property {{ key: string, system: string, proved: boolean, problem: PlatformProblem | undefined }} platform
 * @property {{ version: string, napi: string | undefined }} node
 * @property {readonly ToolCheck[]} tools
 * @property {{ path: string, version: string, build: string, source: string, cudaHeaders: boolean } | undefined} libtorch
 * @property {Addon} addon
 * @property {string | undefined} turboJpeg the library that JPEG images are decoded with
 * @property {ReturnType<typeof jpegScaling>} jpegScaling
 * @property {Processes} processes whether several processes can work together
 * @property {{ model: string, avx2: boolean, avx512: boolean, bf16: boolean, amx: boolean }} cpu
 * @property {ProcessorLimits} processors
 * @property {MemoryLimits} memory
 * @property {readonly Gpu[]} gpus
 */

/**
 * Signs of an NVIDIA driver; undefined where there are none.
 * @typedef {{ sign: string, version: string | undefined } | undefined} Driver
 */

/** @typedef {{ usable: boolean, reason: string, mend: string | undefined }} CudaVerdict */

/**
 * `ok`: no finding is an error.
 * @typedef {Facts & { cuda: CudaVerdict, findings: readonly Finding[], ok: boolean }} Diagnosis
 */

/**
 * Looks at the machine and the clone; works when nothing is installed or built.
 * @param {Environment} [env]
 * @returns {Promise<Diagnosis>}
 */
export async function collect(env = process.env) {
  const [tools, gpus, driver, addon] = await Promise.all([
    checkPrerequisites(env),
    visibleGpus(env),
    describeDriver(env),
    describeAddon(env),
  ]);
  const facts = {
    platform: {
      key: platformKey(),
      system: `${type()} ${release()}`,
      proved: isProved(),
      problem: platformProblem(describePlatform(), env),
    },
    node: { version: process.versions.node, napi: process.versions.napi },
    tools,
    libtorch: describeLibTorch(env),
    addon,
    turboJpeg: await describeTurboJpeg(addon, env),
    jpegScaling: jpegScaling(env),
    processes: await describeProcesses(addon, env),
    cpu: describeCpu(),
    processors: processorLimits(),
    memory: memoryLimits(),
    gpus,
  };
  const cuda = judgeCuda({ ...facts, driver });
  const findings = judge({ ...facts, cuda, driver }, env);
  return { ...facts, cuda, findings, ok: findings.every(({ level }) => level !== 'error') };
}

/**
 * The diagnosis as text for a person.
 * @param {Diagnosis} diagnosis
 */
export function render(diagnosis) {
  const rows = [
    [
      'Platform',
      `${diagnosis.platform.key}${diagnosis.platform.proved ? '' : ' (untested)'}, ${diagnosis.platform.system}`,
    ],
    ['Node', `${diagnosis.node.version}, Node-API ${diagnosis.node.napi}`],
    ...diagnosis.tools.flatMap(toolRows),
    ...libtorchRows(diagnosis.libtorch),
    ['Addon', renderAddon(diagnosis.addon)],
    ['JPEG', renderJpeg(diagnosis)],
    ['Gloo', renderBackend(diagnosis.processes.gloo, 'several processes on CPUs')],
    ['NCCL', renderBackend(diagnosis.processes.nccl, 'several processes on GPUs')],
    ['CPU', renderCpu(diagnosis)],
    ['Processors', renderProcessors(diagnosis.processors)],
    ['Memory', renderMemory(diagnosis.memory)],
    ...gpuRows(diagnosis.gpus),
    ['CUDA', `${diagnosis.cuda.usable ? 'usable' : 'not usable'}: ${diagnosis.cuda.reason}`],
  ];
  const table = rows.map(([name, text]) => `${name.padEnd(10)} ${text}`);
  return [...table, '', ...renderFindings(diagnosis)].join('\n');
}

/** @param {Facts} facts */
function renderJpeg({ turboJpeg, jpegScaling: { isOn, problem } }) {
  if (turboJpeg === undefined) {
    const mend = isPackage ? ` (${setUpCommand} fetches it)` : '';
    return `no TurboJPEG of version 3: files are decoded by sharp, which takes longer${mend}`;
  }
  const rest = problem ?? (isOn ? undefined : 'every image at its own size: LAYERWISE_JPEG_SCALING is off');
  return rest === undefined ? turboJpeg : `${turboJpeg}; ${rest}`;
}

/** @param {Environment} env */
function describeLibTorch(env) {
  const record = readResolved(env);
  if (record === undefined) return undefined;
  const build = record.cuda === null ? 'CPU' : `CUDA ${record.cuda}`;
  const cudaHeaders = Boolean(record.cudaIncludeDir);
  return { path: record.root, version: record.version, build, source: record.source, cudaHeaders };
}

/**
 * @param {Environment} env
 * @returns {Promise<Driver>}
 */
async function describeDriver(env) {
  const sign = nvidiaDriverSign(env);
  return sign === undefined ? undefined : { sign, version: await nvidiaDriverVersion(env) };
}

function describeCpu() {
  const flags = new Set(/^flags\s*:\s*(.*)$/m.exec(readText('/proc/cpuinfo'))?.[1].split(' ') ?? []);
  const model = cpus()[0]?.model.trim() ?? 'unknown';
  /** @param {string} name */
  const has = (name) => flags.has(name);
  return {
    model,
    avx2: has('avx2'),
    avx512: has('avx512f'),
    bf16: has('avx512_bf16') || has('amx_bf16'),
    amx: has('amx_tile'),
  };
}

/** @type {Readonly<Record<string, string | undefined>>} */
const toolNames = { compiler: 'Compiler', cmake: 'CMake' };

/**
 * @param {ToolCheck} check
 * @returns {[name: string, text: string][]}
 */
function toolRows(check) {
  const name = toolNames[check.tool];
  return name === undefined ? [] : [[name, describeTool(check)]];
}

/** @param {ToolCheck} check */
function describeTool({ program, version, problem }) {
  if (problem !== undefined) return program === undefined ? 'not found' : `${version ?? program} (not usable)`;
  return `${version} (${program})`;
}

/** @param {Facts['libtorch']} libtorch */
function libtorchRows(libtorch) {
  if (libtorch === undefined) return [['LibTorch', 'not resolved yet']];
  return [
    ['LibTorch', `${libtorch.version}, ${libtorch.build} build, in ${libtorch.path}`],
    ['', `from: ${libtorch.source}`],
  ];
}

/** @param {Addon} addon */
function renderAddon({ path, bytes = 0, build, problem }) {
  if (path === undefined) return problem ?? '';
  const what = build === undefined ? problem : `loads, built with LibTorch ${build.libtorchBuilt}`;
  return `${path} (${Math.round(bytes / 1000)} kB): ${what}`;
}

/**
 * @param {string | null} reason
 * @param {string} use
 */
function renderBackend(reason, use) {
  return reason === null ? `usable: ${use}` : `not usable: ${reason}`;
}

/** @param {Pick<Facts, 'cpu' | 'addon'>} facts */
function renderCpu({ cpu, addon }) {
  const features = Object.entries({ AVX2: cpu.avx2, 'AVX-512': cpu.avx512, bf16: cpu.bf16, AMX: cpu.amx });
  const listed = features.map(([name, present]) => `${name} ${present ? 'yes' : 'no'}`).join(', ');
  const used =
    addon.build === undefined ? '' : `; LibTorch uses ${addon.build.cpuCapability}, ${addon.build.threads} threads`;
  return `${cpu.model}: ${listed}${used}`;
}

/** @param {ProcessorLimits} processors */
function renderProcessors({ usable, machine, affinity, quota }) {
  const reasons = [
    `${machine} in the machine`,
    ...(affinity < machine ? [`affinity to ${affinity}`] : []),
    ...(quota === null ? [] : [`cgroup quota ${quota.toFixed(1)}`]),
  ];
  return `${usable} usable (${reasons.join('; ')})`;
}

/** @param {MemoryLimits} memory */
function renderMemory({ available, machine, limit }) {
  const reasons = [
    `${gibibytes(machine)} in the machine`,
    ...(limit === null ? [] : [`cgroup limit ${gibibytes(limit)}`]),
  ];
  return `${gibibytes(available)} available (${reasons.join('; ')})`;
}

/** @param {number} bytes */
function gibibytes(bytes) {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

/** @param {readonly Gpu[]} gpus */
function gpuRows(gpus) {
  if (gpus.length === 0) return [['GPUs', 'none visible']];
  return gpus.map(({ index, name, memory, driver, capability }, row) => {
    return [
      row === 0 ? 'GPUs' : '',
      `${index}: ${name}, ${memory}, compute capability ${capability}, driver ${driver}`,
    ];
  });
}

/** @param {Pick<Diagnosis, 'findings' | 'ok'>} diagnosis */
function renderFindings({ findings, ok }) {
  if (findings.length === 0) return ['Everything is in order.'];
  const lines = findings.flatMap(({ level, subject, reason, mend }) => {
    return [`${level}: ${subject}: ${reason}`, ...(mend === undefined ? [] : [`  mend: ${mend}`])];
  });
  return [...lines, '', ok ? 'Training works.' : 'Training cannot work until the errors are mended.'];
}

const USAGE = `Usage: ${doctorCommand}${isPackage ? '' : ' --'} [--json]

What this machine offers for training, and what is wrong.

  --json  one JSON object on standard output`;

function readFlags() {
  try {
    return parseArgs({ options: { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } }).values;
  } catch (error) {
    process.stderr.write(`${reasonOf(error)}\n(add --help for the options)\n`);
    return undefined;
  }
}

async function main() {
  const flags = readFlags();
  if (flags === undefined) return 2;
  if (flags.help) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  // Without it Node would end in a stack; whoever closed the output, as `| head` does, needs no word.
  process.stdout.on('error', (error) => {
    if (codeOf(error) !== 'EPIPE')
      process.stderr.write(`standard output could not be written: ${systemReason(error)}\n`);
    process.exit(1);
  });
  const diagnosis = await collect();
  process.stdout.write(`${flags.json ? JSON.stringify(diagnosis) : render(diagnosis)}\n`);
  return diagnosis.ok ? 0 : 1;
}

if (isMain(import.meta.url)) process.exitCode = await main();
