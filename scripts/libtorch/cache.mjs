import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isObject, readJson, writeJson } from '../support/files.mjs';
import { withLock } from '../support/lock.mjs';
import { cacheDir } from '../support/paths.mjs';
import { platformKey } from '../support/platform.mjs';
import { inspectLibTorch } from './inspect.mjs';
import { pinned } from './pins.mjs';

/** @import { Environment } from '../support/paths.mjs' */
/** @import { LibTorch } from './resolved.mjs' */

/**
 * Where a copy's files come from.
 * @typedef {{ source: string, origin: string, sha256?: string, checkedBy?: string }} Origin
 */

/**
 * What the marker of a whole copy says.
 * @typedef {Origin & { version: string, variant: string, made: string }} CopyFacts
 */

const marker = 'layerwise.json';

/**
 * Where a provisioned copy of the pinned release lies: `<copy>/torch` is LibTorch, `<copy>/nvidia` what CUDA needs.
 * @param {string} variant
 * @param {Environment} [env]
 */
export function copyDir(variant, env = process.env) {
  return join(cacheDir(env), `libtorch-${pinned.version}-${variant}-${platformKey()}`);
}

/** @param {Environment} [env] */
export function downloadsDir(env = process.env) {
  const folder = join(cacheDir(env), 'downloads');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/**
 * What the marker of a whole copy says, or undefined when there is no whole copy.
 * @param {string} variant
 * @param {Environment} [env]
 */
export function readCopy(variant, env = process.env) {
  const facts = readJson(join(copyDir(variant, env), marker));
  return areFacts(facts) ? facts : undefined;
}

/**
 * @param {unknown} facts
 * @returns {facts is CopyFacts}
 */
function areFacts(facts) {
  if (!isObject(facts)) return false;
  const always = [facts.source, facts.origin, facts.version, facts.variant, facts.made];
  const sometimes = [facts.sha256, facts.checkedBy];
  return (
    always.every((value) => typeof value === 'string') &&
    sometimes.every((value) => value === undefined || typeof value === 'string')
  );
}

/**
 * The record of a provisioned copy, for `out/libtorch.json`.
 * @param {string} variant
 * @param {CopyFacts} facts
 * @param {Environment} env
 * @returns {LibTorch}
 */
export function describeCopy(variant, facts, env) {
  const source = `provisioned from ${facts.source} (${facts.origin})`;
  return inspectLibTorch(join(copyDir(variant, env), 'torch'), { source, env });
}

/**
 * Makes a copy: `fill(folder)` fills a folder beside it and returns what the marker is to say. Only then does the folder
 * get its marker and its name, so a copy that exists is whole. Another process that makes the same copy is waited for.
 * @param {string} variant
 * @param {(folder: string) => Promise<Origin>} fill
 * @param {{ env?: Environment, onWait?: () => void, signal?: AbortSignal | undefined }} [options]
 * @returns {Promise<CopyFacts>}
 */
export async function makeCopy(variant, fill, { env = process.env, onWait, signal } = {}) {
  const copy = copyDir(variant, env);
  return withLock(
    `${copy}.lock`,
    async () => {
      const present = readCopy(variant, env);
      if (present !== undefined) return present;
      const partial = `${copy}.partial`;
      for (const leftover of [copy, partial]) rmSync(leftover, { recursive: true, force: true });
      mkdirSync(partial, { recursive: true });
      try {
        const facts = { version: pinned.version, variant, ...(await fill(partial)), made: new Date().toISOString() };
        writeJson(join(partial, marker), facts);
        renameSync(partial, copy);
        return facts;
      } finally {
        rmSync(partial, { recursive: true, force: true });
      }
    },
    { onWait, signal },
  );
}
