import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isNvidias, missingNvidiaLibraries, nvidiaPackages } from '../libtorch/nvidia.mjs';
import { systemLibraryCommand } from '../setup/prerequisites.mjs';
import { readArchitecture } from '../support/elf.mjs';
import { setUpCommand } from '../support/paths.mjs';

/** @import { LibTorch } from '../libtorch/resolved.mjs' */
/** @import { Environment } from '../support/paths.mjs' */

/**
 * @typedef {object} LoadFailure
 * @property {string} message the loader's
 * @property {NodeJS.Signals | null} endedBy the signal that ended the process which tried
 * @property {string} path the addon
 * @property {LibTorch | undefined} libtorch the resolved one
 * @property {Environment} env
 */

/** @typedef {readonly [reason: string, mend: string | undefined]} Explanation */

/**
 * Why the addon does not load, and what mends it.
 * @param {LoadFailure} context
 * @returns {{ reason: string, mend: string | undefined }}
 */
export function explainLoadFailure(context) {
  for (const explain of explanations) {
    const found = explain(context);
    if (found !== undefined) return { reason: found[0], mend: found[1] };
  }
  return { reason: context.message, mend: rebuild(context) };
}

/**
 * The first that knows the failure is taken. The messages are those of glibc's and macOS's loaders and of Node.
 * @type {readonly ((context: LoadFailure) => Explanation | undefined)[]}
 */
const explanations = [
  otherArchitecture,
  missingLibrary,
  permission,
  missingVersion,
  missingSymbol,
  noExecution,
  executableStack,
  memory,
  staticTls,
  damaged,
  otherNode,
  signal,
];

/**
 * @param {LoadFailure} context
 * @returns {Explanation | undefined}
 */
function missingLibrary(context) {
  const name =
    /(\S+): cannot open shared object file: No such file/.exec(context.message)?.[1] ??
    /Library not loaded: (\S+)/.exec(context.message)?.[1];
  if (name === undefined) return undefined;
  const library = basename(name);
  if (library === 'libcuda.so.1') {
    return [`${library} is missing, which comes with the NVIDIA driver`, `install the driver, or ${cpuBuild(context)}`];
  }
  if (isNvidias(library)) return missingNvidia(library, context);
  if (/^lib(torch|c10|caffe2)/.test(library)) return missingTorch(library, context);
  const command = systemLibraryCommand(library, context.env);
  const folder = 'put the folder that holds it into LD_LIBRARY_PATH';
  return [`${library} is missing, which LibTorch or the addon needs`, command === undefined ? folder : command];
}

/**
 * Set-up resolves the same LibTorch again, so it mends nothing. All that are missing are named, not the first alone.
 * @param {string} library
 * @param {LoadFailure} context
 * @returns {Explanation}
 */
function missingNvidia(library, context) {
  const { libtorch, env } = context;
  const folders = [...(libtorch?.runtimeDirs ?? []), ...(env.LD_LIBRARY_PATH ?? '').split(':').filter(Boolean)];
  const missing = libtorch === undefined ? [] : missingNvidiaLibraries(libtorch.libDir, folders);
  const all = [...new Set([library, ...missing])];
  const found = nvidiaFolders().find((folder) => existsSync(join(folder, library)));
  const packages = nvidiaPackages(all, libtorch?.cuda ?? '');
  const ways = [
    `LD_LIBRARY_PATH=${found ?? 'DIR'}${found === undefined ? ', where DIR holds them' : ''}`,
    ...(packages.length === 0
      ? []
      : [`python3 -m pip install ${packages.join(' ')} (into the Python that holds this torch)`]),
    cpuBuild(context),
  ];
  const where = libtorch === undefined ? 'LibTorch' : `the CUDA build of LibTorch in ${libtorch.root}`;
  return [
    `${all.join(', ')}: NVIDIA's ${all.length === 1 ? 'library is' : 'libraries are'} missing, which ${where} needs`,
    ways.join('; or '),
  ];
}

/** Where CUDA's toolkit and its packages put their libraries. */
function nvidiaFolders() {
  const toolkits = readFolder('/usr/local')
    .filter((name) => name.startsWith('cuda'))
    .flatMap((name) => [`/usr/local/${name}/lib64`, `/usr/local/${name}/targets/x86_64-linux/lib`]);
  return [...toolkits, '/usr/local/nvidia/lib64', '/usr/lib/x86_64-linux-gnu', '/usr/lib64'];
}

/** @param {string} folder */
function readFolder(folder) {
  try {
    return readdirSync(folder).sort().reverse();
  } catch {
    return [];
  }
}

/**
 * @param {string} library
 * @param {LoadFailure} context
 * @returns {Explanation}
 */
function missingTorch(library, context) {
  const { libtorch, env, path } = context;
  const reason = `${library} is missing, the LibTorch that ${path} was built with`;
  if (env.LAYERWISE_ADDON) return [reason, `unset LAYERWISE_ADDON, which names this addon, then ${setUpCommand}`];
  // A LibTorch that is gone is resolved again; where one is there, the addon was built with another.
  return [reason, libtorch === undefined ? setUpCommand : rebuild(context)];
}

/**
 * @param {LoadFailure} context
 * @returns {Explanation | undefined}
 */
function permission({ message }) {
  const file = /(\S.*?): cannot open shared object file: Permission denied/.exec(message)?.[1];
  if (file === undefined) return undefined;
  return [
    `${file} may not be read by this user`,
    `let the user read it, and enter the folders above: chmod a+r ${file}`,
  ];
}

/**
 * @param {LoadFailure} context
 * @returns {Explanation | undefined}
 */
function missingVersion(context) {
  const [, library, version, needing] =
    /(\S+): version `([^']+)' not found(?: \(required by (.+?)\))?/.exec(context.message) ?? [];
  if (version === undefined) return undefined;
  const reason = `${basename(library)} is too old or another one: ${needing ?? 'the addon'} needs its version ${version}`;
  if (version.startsWith('GLIBC_')) {
    return [
      reason,
      `a newer distribution or a container; or LIBTORCH=DIR names an older LibTorch, then ${setUpCommand}`,
    ];
  }
  if (/^(GLIBCXX|CXXABI|GCC)_/.test(version)) {
    return [
      reason,
      `${loaderVariables(context)}install a newer libstdc++, or build with the system's compiler (unset CXX): ${rebuild(context)}`,
    ];
  }
  return [reason, `${loaderVariables(context)}see which one is found first: ldd ${context.path}`];
}

/**
 * @param {LoadFailure} context
 * @returns {Explanation | undefined}
 */
function missingSymbol(context) {
  const [, file, symbol] = /(\S.*?): (?:undefined symbol|symbol lookup error): (\S+)/.exec(context.message) ?? [];
  const name = symbol ?? /Symbol not found: (\S+)/.exec(context.message)?.[1];
  if (name === undefined) return undefined;
  const isOfAddon = file === undefined || file === context.path;
  const which = isOfAddon ? 'the addon' : file;
  const reason = `${which} was built against another release than the one that loads (no symbol ${name})`;
  if (isOfAddon) return [reason, `${loaderVariables(context)}${rebuild(context)}`];
  return [reason, `${loaderVariables(context)}see that its libraries are all of one release: ldd ${file}`];
}

/**
 * Both put libraries before those that the addon was linked with.
 * @param {LoadFailure} context
 */
function loaderVariables({ env }) {
  const set = ['LD_PRELOAD', 'LD_LIBRARY_PATH'].filter((name) => env[name]);
  return set.length === 0 ? '' : `unset ${set.join(' ')}; if that is not it, `;
}

/**
 * glibc passes over a file for another machine and then says that there is none: its header tells better.
 * @param {LoadFailure} context
 * @returns {Explanation | undefined}
 */
function otherArchitecture(context) {
  const { message, path, libtorch } = context;
  for (const file of [path, ...(libtorch?.libraries ?? [])].filter((one) => existsSync(one))) {
    const architecture = readArchitecture(file);
    if (architecture === undefined || architecture === process.arch) continue;
    const mend = file === path ? rebuild(context) : `take a LibTorch for ${process.arch}, then ${setUpCommand}`;
    return [`${file} is for ${architecture}, and this Node for ${process.arch}`, mend];
  }
  if (!/wrong ELF class|incompatible architecture/.test(message)) return undefined;
  return [`a library is for another architecture than this Node (${process.arch}): ${message}`, rebuild(context)];
}

/**
 * @param {LoadFailure} context
 * @returns {Explanation | undefined}
 */
function noExecution({ message }) {
  const file =
    /(\S.*?): failed to map segment from shared object(?:: (?:Operation not permitted|Permission denied))?$/.exec(
      message,
    )?.[1];
  if (file === undefined) return undefined;
  return [
    `${file} may not be executed: the file system of ${dirname(file)} is mounted with noexec, or a policy forbids it`,
    `LAYERWISE_OUT (the addon) and LAYERWISE_CACHE (LibTorch) name folders on another file system, then ${setUpCommand}`,
  ];
}

/**
 * @param {LoadFailure} context
 * @returns {Explanation | undefined}
 */
function executableStack({ message }) {
  const file = /(\S.*?): cannot enable executable stack/.exec(message)?.[1];
  if (file === undefined) return undefined;
  return [
    `${file} asks for an executable stack, which this system refuses`,
    `patchelf --clear-execstack ${file}, or a newer LibTorch`,
  ];
}

/**
 * @param {LoadFailure} context
 * @returns {Explanation | undefined}
 */
function memory({ message }) {
  if (!/Cannot allocate memory|out of memory/i.test(message) || /static TLS/.test(message)) return undefined;
  return [
    `no memory or address space to load LibTorch: ${message}`,
    'raise the limit (ulimit -v unlimited; in a container its memory)',
  ];
}

/**
 * @param {LoadFailure} context
 * @returns {Explanation | undefined}
 */
function staticTls({ message }) {
  const file = /(\S.*?): cannot allocate memory in static TLS block/.exec(message)?.[1];
  if (file === undefined) return undefined;
  return [`${file} must be loaded before everything else (no room in the static TLS block)`, `LD_PRELOAD=${file}`];
}

/**
 * @param {LoadFailure} context
 * @returns {Explanation | undefined}
 */
function damaged(context) {
  const file =
    /(\S.*?): (?:file too short|cannot read file data|invalid ELF header|ELF load command|object file has no|not a mach-o)/.exec(
      context.message,
    )?.[1];
  if (file === undefined) return undefined;
  const mend = file === context.path ? rebuild(context) : `remove the LibTorch that holds it, then ${setUpCommand}`;
  return [`${file} is damaged or no library`, mend];
}

/**
 * @param {LoadFailure} context
 * @returns {Explanation | undefined}
 */
function otherNode(context) {
  if (!/did not self-register|NODE_MODULE_VERSION/.test(context.message)) return undefined;
  return ['it is no addon for this Node', rebuild(context)];
}

/**
 * @param {LoadFailure} context
 * @returns {Explanation | undefined}
 */
function signal({ endedBy }) {
  /** @type {Partial<Record<NodeJS.Signals, Explanation>>} */
  const reasons = {
    SIGILL: [
      'LibTorch uses instructions that this processor lacks',
      `LIBTORCH=DIR names one that was built for it, such as the distribution's, then ${setUpCommand}`,
    ],
    SIGKILL: [
      'the process that loaded it was killed, most often for want of memory',
      'see the memory above, and the limits of the container',
    ],
    SIGTERM: ['loading it took more than a minute', 'see whether the file system that holds LibTorch answers'],
  };
  if (!endedBy) return undefined;
  return reasons[endedBy] ?? [`the process that loaded it was ended by ${endedBy}`, undefined];
}

/**
 * Removing the addon is what makes set-up compile it again where none of its inputs has changed.
 * @param {LoadFailure} context
 */
function rebuild({ path, env }) {
  if (env.LAYERWISE_ADDON) return 'unset LAYERWISE_ADDON, which names this addon, or build that one again';
  return `rm ${JSON.stringify(path)} && ${setUpCommand}`;
}

/**
 * A LibTorch that the environment names goes before the variant.
 * @param {LoadFailure} context
 */
function cpuBuild({ env }) {
  const named = ['LIBTORCH', 'LIBTORCH_USE_PYTORCH'].filter((name) => env[name]);
  const unset = named.length === 0 ? '' : `unset ${named.join(' ')} and `;
  return `${unset}take the CPU build: LAYERWISE_LIBTORCH_VARIANT=cpu ${setUpCommand}`;
}
