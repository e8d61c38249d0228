import { existsSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { SetupError } from '../support/errors.mjs';
import { digestFiles, filesUnder, identityOf } from '../support/files.mjs';
import { root } from '../support/paths.mjs';
import { run, tail } from '../support/process.mjs';

/** @import { StepContext } from './steps.mjs' */

const generator = join(root, 'scripts', 'generate-operators.mjs');
const dist = join(root, 'dist');

export function operatorInputs() {
  return [digestFiles([generator, join(root, 'native', 'operators.json')])];
}

/** @param {string} out */
export function operatorOutputs(out) {
  const files = [join(out, 'generated', 'operators.inc'), join(root, 'lib', 'tensor', 'generated', 'operators.ts')];
  return files.map(identityOf);
}

/**
 * Writes the operators' C++ binding and TypeScript face from their declarations.
 * @param {StepContext} context
 */
export async function generateOperators({ env, signal }) {
  const { code, stdout, stderr } = await run(process.execPath, [generator], { cwd: root, env, signal });
  if (code !== 0)
    throw new SetupError('GENERATE_FAILED', `generating the operators failed:\n${tail(stderr || stdout)}`);
}

export function typeScriptInputs() {
  const compiler = join(root, 'node_modules', 'typescript', 'package.json');
  const configs = [
    'tsconfig.json',
    join('scripts', 'tsconfig.json'),
    join('lib', 'server', 'page', 'tsconfig.json'),
  ].map((name) => join(root, name));
  // lib/ takes the types of some scripts from their comments.
  const scripts = filesUnder(join(root, 'scripts'), (name) => name.endsWith('.mjs'));
  return [digestFiles([...configs, compiler, ...scripts, ...typeScriptSources()])];
}

function typeScriptSources() {
  return filesUnder(join(root, 'lib'), (name) => name.endsWith('.ts'));
}

/** Every source's JavaScript, so that a file deleted from dist/ is noticed. */
export function typeScriptOutputs() {
  return compiledFiles().map((path) => `${relative(dist, path)} ${identityOf(path)}`);
}

function compiledFiles() {
  return typeScriptSources()
    .filter((path) => !path.endsWith('.d.ts'))
    .map((path) => join(dist, `${relative(join(root, 'lib'), path).slice(0, -3)}.js`));
}

/**
 * Compiles lib/ to dist/, and the types of scripts/ to dist/scripts. The compiler leaves behind what it made of sources that
 * are gone, so those go first.
 * @param {StepContext} context
 */
export async function compileTypeScript({ env, signal }) {
  removeOrphans();
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const args = [compiler, '--build', join(root, 'tsconfig.json'), '--pretty', 'false'];
  const { code, stdout, stderr } = await run(process.execPath, args, { cwd: root, env, signal });
  if (code !== 0) throw new SetupError('TYPESCRIPT_FAILED', `TypeScript does not compile:\n${tail(stdout || stderr)}`);
  return compiledFiles().length;
}

function removeOrphans() {
  const expected = new Set(compiledFiles());
  const present = filesUnder(dist, (name) => name.endsWith('.js'));
  for (const orphan of present.filter((path) => !expected.has(path))) rmSync(orphan);
  // With files missing, the compiler's own records of what is up to date would keep it from writing them again.
  if ([...expected].every((path) => existsSync(path))) return;
  for (const record of filesUnder(dist, (name) => name === '.tsbuildinfo')) rmSync(record);
}
