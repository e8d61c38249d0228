import { existsSync, statSync } from 'node:fs';
import { cpus, release, type } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { judge, judgeCuda } from './doctor/findings.mjs';
import { explainLoadFailure } from './doctor/load-failure.mjs';
import { readResolved } from './libtorch/resolved.mjs';
import { addonPath } from './setup/addon.mjs';
import { describePlatform, platformProblem } from './setup/platform.mjs';
import { checkPrerequisites } from './setup/prerequisites.mjs';
import { systemReason } from './support/errors.mjs';
import { readText } from './support/files.mjs';
import { memoryLimits, processorLimits } from './support/limits.mjs';
import { isMain } from './support/main.mjs';
import { outDir, root } from './support/paths.mjs';
import { isProved, nvidiaDriverSign, nvidiaDriverVersion, platformKey, visibleGpus } from './support/platform.mjs';
import { run, tail } from './support/process.mjs';

/** Looks at the machine and the clone; works when nothing is installed or built. */
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
    cpu: describeCpu(),
    processors: processorLimits(),
    memory: memoryLimits(),
    gpus,
  };
  const cuda = judgeCuda({ ...facts, driver });
  const findings = judge({ ...facts, cuda, driver }, env);
  return { ...facts, cuda, findings, ok: findings.every(({ level }) => level !== 'error') };
}

/** The diagnosis as text for a person. */
export function render(diagnosis) {
  const rows = [
    [
      'Platform',
      `${diagnosis.platform.key}${diagnosis.platform.proved ? '' : ' (untested)'}, ${diagnosis.platform.system}`,
    ],
    ['Node', `${diagnosis.node.version}, Node-API ${diagnosis.node.napi}`],
    ...diagnosis.tools
      .filter(({ tool }) => toolNames[tool])
      .map((check) => [toolNames[check.tool], describeTool(check)]),
    ...libtorchRows(diagnosis.libtorch),
    ['Addon', renderAddon(diagnosis.addon)],
    ['CPU', renderCpu(diagnosis)],
    ['Processors', renderProcessors(diagnosis.processors)],
    ['Memory', renderMemory(diagnosis.memory)],
    ...gpuRows(diagnosis.gpus),
    ['CUDA', `${diagnosis.cuda.usable ? 'usable' : 'not usable'}: ${diagnosis.cuda.reason}`],
  ];
  const table = rows.map(([name, text]) => `${name.padEnd(10)} ${text}`);
  return [...table, '', ...renderFindings(diagnosis)].join('\n');
}

function describeLibTorch(env) {
  const record = readResolved(env);
  if (record === undefined) return undefined;
  const build = record.cuda === null ? 'CPU' : `CUDA ${record.cuda}`;
  const cudaHeaders = Boolean(record.cudaIncludeDir);
  return { path: record.root, version: record.version, build, source: record.source, cudaHeaders };
}

async function describeDriver(env) {
  const sign = nvidiaDriverSign(env);
  return sign === undefined ? undefined : { sign, version: await nvidiaDriverVersion(env) };
}

/** The addon that the library would load, loaded in a process of its own, since a wrong library may crash it. */
export async function describeAddon(env) {
  const candidates = [env.LAYERWISE_ADDON, addonPath(outDir(env)), join(root, 'build', 'Release', 'layerwise.node')];
  const path = candidates
    .filter(Boolean)
    .map((candidate) => resolve(candidate))
    .find(existsSync);
  const missing = { path: undefined, bytes: undefined, build: undefined };
  if (path === undefined) return { ...missing, problem: 'it is not built', mend: 'npm run setup' };
  const addon = { path, bytes: statSync(path).size };
  const script = 'process.stdout.write(JSON.stringify(require(process.argv[1]).buildInfo()))';
  const options = { env, timeout: 60_000 };
  const { code, endedBy, stdout, stderr } = await run(process.execPath, ['-e', script, path], options);
  if (code === 0) return { ...addon, build: JSON.parse(stdout), problem: undefined, mend: undefined };
  const message = loadError(stderr) || `exit code ${code}`;
  const { reason, mend } = explainLoadFailure({ message, endedBy, path, libtorch: readResolved(env), env });
  return { ...addon, build: undefined, problem: `it does not load: ${reason}`, mend };
}

function loadError(stderr) {
  return /^(?:\w*Error): (.+)$/m.exec(stderr)?.[1] ?? tail(stderr, 1);
}

function describeCpu() {
  const flags = new Set(/^flags\s*:\s*(.*)$/m.exec(readText('/proc/cpuinfo'))?.[1].split(' ') ?? []);
  const model = cpus()[0]?.model.trim() ?? 'unknown';
  const has = (name) => flags.has(name);
  return {
    model,
    avx2: has('avx2'),
    avx512: has('avx512f'),
    bf16: has('avx512_bf16') || has('amx_bf16'),
    amx: has('amx_tile'),
  };
}

const toolNames = { compiler: 'Compiler', cmake: 'CMake' };

function describeTool({ program, version, problem }) {
  if (problem !== undefined) return program === undefined ? 'not found' : `${version ?? program} (not usable)`;
  return `${version} (${program})`;
}

function libtorchRows(libtorch) {
  if (libtorch === undefined) return [['LibTorch', 'not resolved yet']];
  return [
    ['LibTorch', `${libtorch.version}, ${libtorch.build} build, in ${libtorch.path}`],
    ['', `from: ${libtorch.source}`],
  ];
}

function renderAddon({ path, bytes, build, problem }) {
  if (path === undefined) return problem;
  const what = build === undefined ? problem : `loads, built with LibTorch ${build.libtorchBuilt}`;
  return `${path} (${Math.round(bytes / 1000)} kB): ${what}`;
}

function renderCpu({ cpu, addon }) {
  const features = Object.entries({ AVX2: cpu.avx2, 'AVX-512': cpu.avx512, bf16: cpu.bf16, AMX: cpu.amx });
  const listed = features.map(([name, present]) => `${name} ${present ? 'yes' : 'no'}`).join(', ');
  const used =
    addon.build === undefined ? '' : `; LibTorch uses ${addon.build.cpuCapability}, ${addon.build.threads} threads`;
  return `${cpu.model}: ${listed}${used}`;
}

function renderProcessors({ usable, machine, affinity, quota }) {
  const reasons = [
    `${machine} in the machine`,
    ...(affinity < machine ? [`affinity to ${affinity}`] : []),
    ...(quota === null ? [] : [`cgroup quota ${quota.toFixed(1)}`]),
  ];
  return `${usable} usable (${reasons.join('; ')})`;
}

function renderMemory({ available, machine, limit }) {
  const reasons = [
    `${gibibytes(machine)} in the machine`,
    ...(limit === null ? [] : [`cgroup limit ${gibibytes(limit)}`]),
  ];
  return `${gibibytes(available)} available (${reasons.join('; ')})`;
}

function gibibytes(bytes) {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function gpuRows(gpus) {
  if (gpus.length === 0) return [['GPUs', 'none visible']];
  return gpus.map(({ index, name, memory, driver, capability }, row) => {
    return [
      row === 0 ? 'GPUs' : '',
      `${index}: ${name}, ${memory}, compute capability ${capability}, driver ${driver}`,
    ];
  });
}

function renderFindings({ findings, ok }) {
  if (findings.length === 0) return ['Everything is in order.'];
  const lines = findings.flatMap(({ level, subject, reason, mend }) => {
    return [`${level}: ${subject}: ${reason}`, ...(mend === undefined ? [] : [`  mend: ${mend}`])];
  });
  return [...lines, '', ok ? 'Training works.' : 'Training cannot work until the errors are mended.'];
}

const USAGE = `Usage: npm run doctor -- [--json]

What this machine offers for training, and what is wrong.

  --json  one JSON object on standard output`;

function readFlags() {
  try {
    return parseArgs({ options: { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } }).values;
  } catch (error) {
    process.stderr.write(`${error.message}\n(add --help for the options)\n`);
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
    if (error.code !== 'EPIPE') process.stderr.write(`standard output could not be written: ${systemReason(error)}\n`);
    process.exit(1);
  });
  const diagnosis = await collect();
  process.stdout.write(`${flags.json ? JSON.stringify(diagnosis) : render(diagnosis)}\n`);
  return diagnosis.ok ? 0 : 1;
}

if (isMain(import.meta.url)) process.exitCode = await main();
