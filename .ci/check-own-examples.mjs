// node .ci/check-own-examples.mjs FOLDER own-network|own-data: an example that is a module and a program in one. It is trained in
// a worker (the program), from the command line, and interrupted and resumed by both: all to the same bits.
import { spawn } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const [folder, name] = process.argv.slice(2);
if (folder === undefined || name === undefined) throw new Error('expected FOLDER and the name of an example');
const root = join(import.meta.dirname, '..');
const file = join(root, 'out', 'examples', `${name}.js`);
const main = join(root, 'dist', 'cli', 'main.js');
const modules = name === 'own-network' ? ['--network', file, '--data', file] : ['--data', file];
/** @param {string} run */
const at = (run) => join(folder, run);

/**
 * Runs a program to its end, or until a line of its output satisfies `stop`: then it is interrupted. Throws for another exit code.
 * @param {readonly string[]} args
 * @param {(line: string) => boolean} [stop]
 */
async function run(args, stop) {
  const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.on('close', resolve));
  for await (const line of createInterface({ input: child.stdout })) {
    if (stop?.(line)) child.kill('SIGINT');
  }
  const [code, expected] = [await ended, stop === undefined ? 0 : 130];
  if (code !== expected) throw new Error(`${args.join(' ')}: expected exit code ${expected}, got ${code}`);
}

rmSync(folder, { recursive: true, force: true });
await run([join(root, 'scripts', 'run.mjs'), 'example', name, '--out', at('worker')]);
await run([file, '--out', at('worker-resumed')], (line) => line.startsWith('layer 1'));
await run([file, '--resume', at('worker-resumed')]);
const train = [main, 'train', '--config', join(at('worker'), 'config.json'), ...modules];
await run([...train, '--out', at('cli')]);
await run([...train, '--json', '--out', at('cli-resumed')], (line) => JSON.parse(line).type === 'epoch');
await run([main, 'train', '--resume', at('cli-resumed'), ...modules]);

const [whole, ...others] = ['worker', 'worker-resumed', 'cli', 'cli-resumed'].map((run) => ({
  run,
  bytes: readFileSync(join(at(run), 'model.safetensors')),
}));
for (const { run, bytes } of others) {
  if (!bytes.equals(/** @type {{ bytes: Buffer }} */ (whole).bytes))
    throw new Error(`${run}: expected the bits of the run in a worker`);
}
console.log(`${name}: in a worker, from the command line, and both resumed: the same bits`);
