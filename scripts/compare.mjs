// npm run compare -- REV [--run='FLAGS']...: trains the same short runs on the commit REV and on this tree, and compares the bits
// of what they leave. So a change shows that it changes no result. The commit is set up in a folder of its own in the state
// directory, where it stays for the next time.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { differences } from './compare/differences.mjs';
import { reasonOf } from './support/errors.mjs';
import { outDir, root } from './support/paths.mjs';

/** Every part that computes: plain and cached features, all batch sizes, both schedules, dropout, fp32 and the default precision. */
const RUNS = [
  '--preset vgg11-layerwise --layers 3 --width 8 --precision fp32 --train-limit 150 --test-limit 60 --epochs 2',
  '--preset simcnn-k2 --dataset shapes --layers 3 --width 16 --aux-width 16 --views 2 --train-limit 150 --test-limit 60 --epochs 3',
  '--preset vgg11-end-to-end --width 8 --train-limit 150 --test-limit 60 --epochs 2 --batch-size 50 --micro-batch 20 --seed 3',
];

/** @param {string[]} args */
function main(args) {
  /** @type {{ revision: string, runs: string[] }} */
  let request;
  try {
    request = requestOf(args);
  } catch (error) {
    console.error(`compare: ${reasonOf(error)}. Usage: npm run compare -- REV [--run='FLAGS']...`);
    return 2;
  }
  try {
    return compare(request);
  } catch (error) {
    console.error(`compare: ${reasonOf(error)}`);
    return 1;
  }
}

/** @param {string[]} args */
function requestOf(args) {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { run: { type: 'string', multiple: true } },
  });
  const [name, ...others] = positionals;
  if (name === undefined || others.length > 0) {
    throw new Error(`expected one commit, got ${positionals.join(' ') || 'none'}`);
  }
  return { revision: commitOf(name), runs: values.run ?? RUNS };
}

/** @param {{ revision: string, runs: string[] }} request */
function compare({ revision, runs }) {
  const folder = join(outDir(), 'compare');
  const trees = { before: checkOut(revision, join(folder, revision.slice(0, 12))), now: root };
  for (const tree of Object.values(trees)) command(tree, ['scripts/setup.mjs']);

  let different = 0;
  for (const [index, flags] of runs.entries()) {
    /** @param {'before' | 'now'} name */
    const train = (name) => {
      const out = join(folder, `${name}-${index}`);
      rmSync(out, { recursive: true, force: true });
      command(trees[name], ['dist/cli/main.js', 'train', '--json', '--out', out, ...flags.split(/\s+/)]);
      return out;
    };
    const found = differences(train('before'), train('now'));
    console.log(`${found.length === 0 ? 'the same bits' : 'DIFFERENT'}: train ${flags}`);
    for (const line of found.slice(0, 10)) console.log(`  ${line}`);
    if (found.length > 10) console.log(`  and ${found.length - 10} more`);
    if (found.length > 0) different += 1;
  }
  return different === 0 ? 0 : 1;
}

/** @param {string} name */
function commitOf(name) {
  const { status, stdout } = git(['rev-parse', '--verify', '--quiet', `${name}^{commit}`]);
  if (status !== 0) throw new Error(`expected a commit of this repository, got ${name}`);
  return stdout.toString().trim();
}

/**
 * The files of a commit, in `folder`.
 * @param {string} commit
 * @param {string} folder
 */
function checkOut(commit, folder) {
  if (existsSync(folder)) return folder;
  // Under another name until it is whole: an interrupted one is not taken for it.
  const unfinished = `${folder}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  const archive = git(['archive', '--format=tar', commit]);
  const { status } = spawnSync('tar', ['-x', '-C', unfinished], {
    input: archive.stdout,
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  if (archive.status !== 0 || status !== 0)
    throw new Error(`the files of ${commit} cannot be written to ${unfinished}`);
  renameSync(unfinished, folder);
  return folder;
}

/** @param {string[]} args */
function git(args) {
  return spawnSync('git', ['-C', root, ...args], { maxBuffer: 2 ** 30, stdio: ['ignore', 'pipe', 'inherit'] });
}

/**
 * Runs a program of a tree in that tree, with the addon of that tree.
 * @param {string} tree
 * @param {string[]} args
 */
function command(tree, args) {
  const { LAYERWISE_OUT, LAYERWISE_ADDON, ...env } = process.env;
  const own = { LAYERWISE_ADDON: join(outDir(), 'cmake', 'Release', 'layerwise.node') };
  const { status } = spawnSync(process.execPath, args, {
    cwd: tree,
    env: tree === root ? { ...own, ...process.env } : env,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (status !== 0) throw new Error(`node ${args.join(' ')} ended with ${status} in ${tree}`);
}

process.exitCode = main(process.argv.slice(2));
