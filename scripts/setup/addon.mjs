import { existsSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import { SetupError } from '../support/errors.mjs';
import { digestFiles, filesUnder, identityOf, readText } from '../support/files.mjs';
import { root } from '../support/paths.mjs';
import { run, tail } from '../support/process.mjs';

/** A compiler process takes about this much on LibTorch's headers. */
const compilerMemory = 2e9;

export function addonPath(out) {
  return join(out, 'cmake', 'Release', 'layerwise.node');
}

export function addonInputs({ env, out }) {
  const native = filesUnder(join(root, 'native'));
  const state = [join(out, 'libtorch.json'), join(out, 'generated', 'operators.inc')];
  const dependencies = ['node-addon-api', 'node-api-headers'].map((name) =>
    join(root, 'node_modules', name, 'package.json'),
  );
  const files = [join(root, 'CMakeLists.txt'), ...native, ...state, ...dependencies];
  return [digestFiles(files), env.CXX ?? '', env.LAYERWISE_SANITIZE ?? '', process.arch];
}

export function addonOutputs(out) {
  return [identityOf(addonPath(out))];
}

/** Configures and compiles with cmake-js; everything it prints goes to `out/build.log`. */
export async function buildAddon({ env, out, signal }) {
  const folder = join(out, 'cmake');
  const log = join(out, 'build.log');
  if (!belongsHere(folder)) rmSync(folder, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  rmSync(log, { force: true });
  await cmakeJs('configure', [], { folder, log, env, signal });
  await cmakeJs('build', ['--parallel', String(jobs())], { folder, log, env, signal });
  if (!existsSync(addonPath(out))) {
    throw new SetupError('BUILD_FAILED', `the build ended without ${addonPath(out)}; its output is in ${log}`);
  }
  return statSync(addonPath(out)).size;
}

/** CMake refuses a build folder that was made for another source folder, as after a clone was moved or copied. */
function belongsHere(folder) {
  const home = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(readText(join(folder, 'CMakeCache.txt')))?.[1];
  return home === root;
}

async function cmakeJs(command, args, { folder, log, env, signal }) {
  const program = join(root, 'node_modules', 'cmake-js', 'bin', 'cmake-js');
  const common = ['--directory', root, '--out', folder, '--config', 'Release'];
  const options = { cwd: root, env, log, signal };
  const { code, stdout, stderr } = await run(process.execPath, [program, command, ...common, ...args], options);
  if (code === 0) return;
  const message = `the addon's ${command} step failed:\n${errorLines(stdout + stderr)}\nThe whole output is in ${log}`;
  throw new SetupError('BUILD_FAILED', message);
}

/** From the first error on; without one, the end. */
function errorLines(output) {
  const lines = output.split('\n');
  const first = lines.findIndex((line) => /\berror\b|CMake Error/i.test(line));
  return tail((first === -1 ? lines : lines.slice(first, first + 15)).join('\n'));
}

function jobs() {
  return Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / compilerMemory)));
}
