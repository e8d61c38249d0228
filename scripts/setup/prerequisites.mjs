import { realpathSync } from 'node:fs';
import { SetupError } from '../support/errors.mjs';
import { identityOf } from '../support/files.mjs';
import { compareVersions } from '../support/platform.mjs';
import { run, which } from '../support/process.mjs';

/** @import { Environment } from '../support/paths.mjs' */

/** @typedef {'compiler' | 'cmake' | 'make' | 'npm'} Tool */

/**
 * `problem` is undefined where the tool will do.
 * @typedef {object} ToolCheck
 * @property {Tool} tool
 * @property {string | undefined} program
 * @property {string} [version]
 * @property {string | undefined} problem
 */

const oldestCMake = '3.19';

/**
 * The package that holds each tool, by package manager; the first manager on PATH is meant.
 * @type {Readonly<Record<string, Record<Tool | 'verb', string>>>}
 */
const packages = {
  'apt-get': { verb: 'install', compiler: 'g++', cmake: 'cmake', make: 'make', npm: 'npm' },
  dnf: { verb: 'install', compiler: 'gcc-c++', cmake: 'cmake', make: 'make', npm: 'npm' },
  zypper: { verb: 'install', compiler: 'gcc-c++', cmake: 'cmake', make: 'make', npm: 'npm' },
  pacman: { verb: '-S', compiler: 'gcc', cmake: 'cmake', make: 'make', npm: 'npm' },
  apk: { verb: 'add', compiler: 'g++', cmake: 'cmake', make: 'make', npm: 'npm' },
  brew: { verb: 'install', compiler: 'llvm', cmake: 'cmake', make: 'make', npm: 'node' },
};

/**
 * The packages of the libraries that LibTorch and the addon take from the system, by package manager.
 * @type {Readonly<Record<string, Readonly<Record<string, string | undefined>> | undefined>>}
 */
const systemLibraries = {
  'libgomp.so.1': { 'apt-get': 'libgomp1', dnf: 'libgomp', zypper: 'libgomp1', pacman: 'gcc-libs', brew: 'libomp' },
  'libstdc++.so.6': { 'apt-get': 'libstdc++6', dnf: 'libstdc++', zypper: 'libstdc++6', pacman: 'gcc-libs' },
  'libgcc_s.so.1': { 'apt-get': 'libgcc-s1', dnf: 'libgcc', zypper: 'libgcc_s1', pacman: 'gcc-libs' },
};

/**
 * What the checks depend on: which programs are found, and whether one of them was replaced.
 * @param {Environment} [env]
 */
export function prerequisiteInputs(env = process.env) {
  const tools = {
    compiler: compilerProgram(env),
    cmake: which('cmake', env),
    make: makeProgram(env),
    npm: which('npm', env),
  };
  return Object.entries(tools).map(([name, path]) =>
    path ? `${name} ${path} ${identityOf(realpathSync(path))}` : `no ${name}`,
  );
}

/**
 * Finds each tool.
 * @param {Environment} [env]
 * @returns {Promise<[compiler: ToolCheck, cmake: ToolCheck, make: ToolCheck, npm: ToolCheck]>}
 */
export async function checkPrerequisites(env = process.env) {
  return Promise.all([checkCompiler(env), checkCMake(env), checkMake(env), checkNpm(env)]);
}

/**
 * The compiler and CMake, in words. Throws SetupError where something that building needs is missing.
 * @param {Environment} [env]
 */
export async function requirePrerequisites(env = process.env) {
  const checks = await checkPrerequisites(env);
  refuseMissing(checks, env);
  const [compiler, cmake] = checks;
  return `${compiler.version}, CMake ${cmake.version}`;
}

/**
 * One message for all that is missing, with the one command that installs it.
 * @param {readonly ToolCheck[]} checks
 * @param {Environment} [env]
 */
export function refuseMissing(checks, env = process.env) {
  const missing = checks.filter(({ problem }) => problem !== undefined);
  if (missing.length === 0) return;
  const message = ['What building needs is missing:', ...missing.map(({ problem }) => `  - ${problem}`)].join('\n');
  throw new SetupError('PREREQUISITES', message, {
    mend: installCommand(
      missing.map(({ tool }) => tool),
      env,
    ),
  });
}

/**
 * The command that installs tools here, or undefined where no known package manager is found.
 * @param {readonly Tool[]} tools
 * @param {Environment} [env]
 */
export function installCommand(tools, env = process.env) {
  const manager = packageManager(env);
  if (manager === undefined) return undefined;
  const names = tools.map((tool) => packages[manager][tool]);
  return command(manager, names);
}

/**
 * The command that installs a library here, or undefined where its package is not known.
 * @param {string} library
 * @param {Environment} [env]
 */
export function systemLibraryCommand(library, env = process.env) {
  const manager = packageManager(env);
  const name = manager && systemLibraries[library]?.[manager];
  return manager && name && command(manager, [name]);
}

/** @param {Environment} env */
function packageManager(env) {
  return Object.keys(packages).find((name) => which(name, env) !== undefined);
}

/**
 * @param {string} manager
 * @param {readonly string[]} names
 */
function command(manager, names) {
  const sudo = manager === 'brew' || process.getuid?.() === 0 ? '' : 'sudo ';
  return `${sudo}${manager} ${packages[manager].verb} ${names.join(' ')}`;
}

/**
 * The compiler that CMake takes: CXX where it is set, else the system's.
 * @param {Environment} env
 */
function compilerProgram(env) {
  const names = env.CXX ? [env.CXX.split(' ')[0]] : ['c++', 'g++', 'clang++'];
  return names.map((name) => which(name, env)).find(Boolean);
}

/** @param {Environment} env */
function makeProgram(env) {
  return which('ninja', env) ?? which('make', env);
}

/**
 * @param {Environment} env
 * @returns {Promise<ToolCheck>}
 */
async function checkCompiler(env) {
  const program = compilerProgram(env);
  const check = { tool: /** @type {const} */ ('compiler'), program };
  if (program === undefined)
    return { ...check, problem: env.CXX ? `the compiler that CXX names, ${env.CXX}` : 'a C++20 compiler' };
  const { stdout } = await run(program, ['--version'], { env }).catch(() => ({ stdout: '' }));
  const version = stdout.split('\n')[0];
  const works = await compiles(program, env);
  return {
    ...check,
    version,
    problem: works ? undefined : `a C++20 compiler (${version || program} does not compile C++20)`,
  };
}

/**
 * Compiling tells more than a version number: the standard library may be older than the compiler.
 * @param {string} program
 * @param {Environment} env
 */
async function compiles(program, env) {
  const input =
    '#include <concepts>\n#include <span>\nstatic_assert(std::integral<int>);\nint main() { return std::span<int>{}.size(); }\n';
  const args = ['-std=c++20', '-fsyntax-only', '-x', 'c++', '-'];
  const { code } = await run(program, args, { env, input }).catch(() => ({ code: 1 }));
  return code === 0;
}

/**
 * @param {Environment} env
 * @returns {Promise<ToolCheck>}
 */
async function checkCMake(env) {
  const program = which('cmake', env);
  const check = { tool: /** @type {const} */ ('cmake'), program };
  if (program === undefined) return { ...check, problem: `CMake ${oldestCMake} or later` };
  const { stdout } = await run(program, ['--version'], { env }).catch(() => ({ stdout: '' }));
  const version = /(\d+\.\d+(?:\.\d+)?)/.exec(stdout)?.[1] ?? 'unknown';
  const isNewEnough = version !== 'unknown' && compareVersions(version, oldestCMake) >= 0;
  return {
    ...check,
    version,
    problem: isNewEnough ? undefined : `CMake ${oldestCMake} or later (${program} is ${version})`,
  };
}

/**
 * @param {Environment} env
 * @returns {ToolCheck}
 */
function checkMake(env) {
  const program = makeProgram(env);
  return { tool: 'make', program, problem: program === undefined ? 'make or ninja' : undefined };
}

/**
 * @param {Environment} env
 * @returns {ToolCheck}
 */
function checkNpm(env) {
  const program = which('npm', env);
  return { tool: 'npm', program, problem: program === undefined ? 'npm, which comes with Node' : undefined };
}
