import { cpSync, existsSync, mkdirSync, renameSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { tryAddon } from '../doctor/addon.mjs';
import { readRecord } from '../libtorch/resolved.mjs';
import { prebuiltAddon } from '../support/addon.mjs';
import { digestFiles, filesUnder, identityOf, isObject, readJson } from '../support/files.mjs';
import { packageVersion, root } from '../support/paths.mjs';
import { platformKey } from '../support/platform.mjs';

/** @import { LibTorch } from '../libtorch/resolved.mjs' */
/** @import { StepContext } from './steps.mjs' */

/** The optional package that brings the compiled addon for this platform. */
export const prebuiltPackage = `layerwise-${platformKey()}`;

/**
 * A prebuilt package: the release of LibTorch that its addons were compiled against, and the folder with one for each variant.
 * @typedef {{ folder: string, libtorch: string }} Prebuilt
 */

/**
 * The prebuilt package beside this one; undefined where it is not installed, or is another version's.
 * @returns {Prebuilt | undefined}
 */
export function findPrebuilt() {
  const manifest = locate(`${prebuiltPackage}/package.json`);
  const facts = manifest === undefined ? undefined : readJson(manifest);
  if (manifest === undefined || !isObject(facts) || facts.version !== packageVersion) return undefined;
  if (typeof facts.libtorch !== 'string') return undefined;
  return { folder: dirname(manifest), libtorch: facts.libtorch };
}

/** @param {string} name */
function locate(name) {
  try {
    return createRequire(join(root, 'package.json')).resolve(name);
  } catch {
    return undefined;
  }
}

/**
 * What a step depends on that asks for the prebuilt addon.
 * @returns {string[]}
 */
export function prebuiltInputs() {
  const found = findPrebuilt();
  if (found === undefined) return [];
  return [
    digestFiles(
      filesUnder(found.folder, (name) => name.endsWith('.node')),
      found.folder,
    ),
  ];
}

/** @param {string} out */
export function prebuiltOutputs(out) {
  return [identityOf(prebuiltAddon(out))];
}

/**
 * Puts the prebuilt addon that fits the resolved LibTorch into the state directory, where it stays only if it loads in a process of
 * its own. Resolves with its bytes, or with the reason why there is none.
 * @param {StepContext} context
 * @returns {Promise<{ bytes: number } | { problem: string }>}
 */
export async function installPrebuilt(context) {
  const installed = await tryPrebuilt(context);
  // What is there goes only where nothing takes its place: another process may be about to load it.
  if ('problem' in installed) rmSync(prebuiltAddon(context.out), { force: true });
  return installed;
}

/**
 * @param {StepContext} context
 * @returns {Promise<{ bytes: number } | { problem: string }>}
 */
async function tryPrebuilt({ env, out, signal }) {
  const target = prebuiltAddon(out);
  const libtorch = readRecord(out);
  if (libtorch === undefined) return { problem: 'no LibTorch is resolved' };
  const source = fitting(libtorch);
  if ('problem' in source) return source;
  mkdirSync(dirname(target), { recursive: true });
  link(libtorch.libDir, join(dirname(target), 'libtorch'));
  // Of its own name from the start: a process that has it loaded keeps its file.
  const trial = join(dirname(target), 'trial.node');
  cpSync(source.path, trial);
  const { problem } = await tryAddon(trial, { env, libtorch, signal });
  if (problem === undefined) renameSync(trial, target);
  else rmSync(trial);
  return problem === undefined ? { bytes: statSync(target).size } : { problem };
}

/**
 * @param {LibTorch} libtorch
 * @returns {{ path: string } | { problem: string }}
 */
function fitting(libtorch) {
  const found = findPrebuilt();
  if (found === undefined) return { problem: `it is not installed in version ${packageVersion}` };
  const variant = libtorch.cuda === null ? 'cpu' : `cu${libtorch.cuda.replace('.', '')}`;
  const path = file(found, variant);
  if (libtorch.version !== found.libtorch || !existsSync(path)) {
    return { problem: `it has no addon for LibTorch ${libtorch.version} (${variant})` };
  }
  return { path };
}

/**
 * @param {Prebuilt} prebuilt
 * @param {string} variant
 */
function file({ folder }, variant) {
  return join(folder, variant, 'layerwise.node');
}

/**
 * @param {string} target
 * @param {string} path
 */
function link(target, path) {
  const made = `${path}.new`;
  rmSync(made, { force: true });
  symlinkSync(target, made);
  renameSync(made, path);
}
