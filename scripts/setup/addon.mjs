import { cpSync, existsSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { compiledAddon } from '../support/addon.mjs';
import { SetupError } from '../support/errors.mjs';
import { digestFiles, filesUnder, identityOf, readText } from '../support/files.mjs';
import { availableMemory, usableProcessors } from '../support/limits.mjs';
import { root } from '../support/paths.mjs';
import { run, tail } from '../support/process.mjs';
import { toolsRoot } from './build-tools.mjs';
import { withPlainPaths } from './plain-paths.mjs';

/** @import { Environment } from '../support/paths.mjs' */
/** @import { StepContext } from './steps.mjs' */
/** @import { PlainPaths } from './plain-paths.mjs' */

/** Bytes that a compiler process may need: 0.56e9 was measured (GCC 12, LibTorch 2.13.0), and other compilers take more. */
const compilerMemory = 1e9;

/** @param {StepContext} context */
export function addonInputs({ env, out }) {
  const native = filesUnder(join(root, 'native'));
  const state = [join(out, 'libtorch.json'), join(out, 'rpath.txt'), join(out, 'generated', 'operators.inc')];
  const tools = toolsRoot(env);
  const dependencies = ['node-addon-api', 'node-api-headers'].map((name) =>
    join(tools, 'node_modules', name, 'package.json'),
  );
  const sources = [join(root, 'CMakeLists.txt'), ...native];
  return [
    digestFiles(sources, root),
    digestFiles(state, out),
    digestFiles(dependencies, tools),
    env.CXX ?? '',
    env.LAYERWISE_SANITIZE ?? '',
    process.arch,
  ];
}

/** @param {string} out */
export function addonOutputs(out) {
  return [identityOf(compiledAddon(out))];
}

/**
 * Configures and compiles with cmake-js; everything it prints goes to `out/build.log`. Resolves with the addon's bytes.
 * @param {StepContext} context
 */
export async function buildAddon({ env, out, signal }) {
  const log = join(out, 'build.log');
  mkdirSync(out, { recursive: true });
  rmSync(log, { force: true });
  await withPlainPaths(out, async (paths) => {
    const folder = join(paths.out, 'cmake');
    if (!belongsHere(folder, paths.source)) rmSync(folder, { recursive: true, force: true });
    const options = { paths, folder, log, env: { ...env, LAYERWISE_OUT: paths.out }, signal };
    await cmakeJs('configure', [`--CDCMAKE_JS_INC=${paths.nodeApi.join(';')}`], options);
    await cmakeJs('build', ['--parallel', String(compileJobs())], options);
    if (paths.out !== out) fetchAddon(paths.out, out);
  });
  if (!existsSync(compiledAddon(out))) {
    throw new SetupError('BUILD_FAILED', `the build ended without ${compiledAddon(out)}; its output is in ${log}`);
  }
  return statSync(compiledAddon(out)).size;
}

/**
 * CMake refuses a build folder that was made for another source folder, as after a clone was moved or copied.
 * @param {string} folder
 * @param {string} source
 */
function belongsHere(folder, source) {
  const home = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(readText(join(folder, 'CMakeCache.txt')))?.[1];
  return home === source;
}

/**
 * @param {string} from
 * @param {string} to
 */
function fetchAddon(from, to) {
  const target = compiledAddon(to);
  rmSync(dirname(dirname(target)), { recursive: true, force: true });
  mkdirSync(dirname(target), { recursive: true });
  cpSync(compiledAddon(from), target);
}

/**
 * @param {'configure' | 'build'} command
 * @param {readonly string[]} args
 * @param {{ paths: PlainPaths, folder: string, log: string, env: Environment, signal: AbortSignal }} options
 */
async function cmakeJs(command, args, { paths, folder, log, env, signal }) {
  const program = join(toolsRoot(env), 'node_modules', 'cmake-js', 'bin', 'cmake-js');
  const common = ['--directory', paths.source, '--out', folder, '--config', 'Release'];
  const options = { cwd: root, env, log, signal };
  const { code, stdout, stderr } = await run(process.execPath, [program, command, ...common, ...args], options);
  if (code === 0) return;
  const message = `the addon's ${command} step failed:\n${errorLines(stdout + stderr)}\nThe whole output is in ${log}`;
  throw new SetupError('BUILD_FAILED', message);
}

/**
 * From the first error on; without one, the end.
 * @param {string} output
 */
function errorLines(output) {
  const lines = output.split('\n');
  const first = lines.findIndex((line) => /\berror\b|CMake Error/i.test(line));
  return tail((first === -1 ? lines : lines.slice(first, first + 15)).join('\n'));
}

/** Compiler processes at a time: what the processors and the memory that this process may use allow. */
export function compileJobs({ processors = usableProcessors(), memory = availableMemory() } = {}) {
  return Math.max(1, Math.min(processors, Math.floor(memory / compilerMemory)));
}
