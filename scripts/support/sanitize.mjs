import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { outDir } from './paths.mjs';

/**
 * The sanitizer's library, which must be loaded before all others, and its settings.
 * @type {Readonly<Record<string, { library: string, settings: Record<string, string> }>>}
 */
const sanitizers = {
  address: {
    library: 'libasan.so',
    // Node frees nothing at its end, and LibTorch keeps what it has. Memory that is not there is an error, as without.
    settings: { ASAN_OPTIONS: 'detect_leaks=0:allocator_may_return_null=1' },
  },
  undefined: { library: 'libubsan.so', settings: { UBSAN_OPTIONS: 'print_stacktrace=1' } },
};

/**
 * Takes `--sanitize address`, `--sanitize undefined` or `--sanitize address,undefined` out of a command's arguments, and has set-up
 * build the addon so, by `env`, in a state directory of its own. Ends the process, with what is wrong, for another name and where the compiler has
 * no such library.
 * @param {readonly string[]} args
 * @param {Record<string, string | undefined>} env
 * @returns {{ name?: string, args: readonly string[], preload?: string }} the sanitizers, the other arguments, and the
 *   libraries that programs need in LD_PRELOAD then; without a sanitizer the arguments alone
 */
export function takeSanitizer(args, env) {
  const i = args.indexOf('--sanitize');
  if (i === -1) return { args };
  const name = args[i + 1] ?? '';
  const names = name.split(',');
  if (!names.every((one) => Object.hasOwn(sanitizers, one)) || new Set(names).size < names.length) {
    refuse(
      `expected ${Object.keys(sanitizers).join(' or ')}, or both with a comma, for --sanitize, got ${name || 'nothing'}`,
    );
  }
  const chosen = names.map((one) => sanitizers[one]);
  const preload = chosen.map(({ library }) => libraryOf(env.CXX || 'c++', library)).join(':');
  env.LAYERWISE_OUT = join(outDir(env), name);
  env.LAYERWISE_SANITIZE = name;
  delete env.LAYERWISE_ADDON;
  for (const { settings } of chosen) {
    for (const [setting, value] of Object.entries(settings)) env[setting] ??= value;
  }
  return { name, args: args.toSpliced(i, 2), preload };
}

/**
 * @param {string} compiler
 * @param {string} library
 */
function libraryOf(compiler, library) {
  const { stdout } = spawnSync(compiler, [`-print-file-name=${library}`], { encoding: 'utf8' });
  const path = stdout?.trim() ?? '';
  // A compiler that does not have it answers with the name alone.
  if (!path.includes('/')) refuse(`${compiler} has no ${library}: sanitizers need GCC on Linux`);
  return path;
}

/**
 * @param {string} reason
 * @returns {never}
 */
function refuse(reason) {
  console.error(reason);
  process.exit(2);
}
