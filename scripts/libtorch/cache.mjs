import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { readJson, writeJson } from '../support/files.mjs';
import { withLock } from '../support/lock.mjs';
import { cacheDir } from '../support/paths.mjs';
import { platformKey } from '../support/platform.mjs';
import { inspectLibTorch } from './inspect.mjs';
import { pinned } from './pins.mjs';

const marker = 'layerwise.json';

/** Where a provisioned copy of the pinned release lies: `<copy>/torch` is LibTorch, `<copy>/nvidia` what CUDA needs. */
export function copyDir(variant, env = process.env) {
  return join(cacheDir(env), `libtorch-${pinned.version}-${variant}-${platformKey()}`);
}

export function downloadsDir(env = process.env) {
  const folder = join(cacheDir(env), 'downloads');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** What the marker of a whole copy says, or undefined when there is no whole copy. */
export function readCopy(variant, env = process.env) {
  return readJson(join(copyDir(variant, env), marker));
}

/** The record of a provisioned copy, for `out/libtorch.json`. */
export function describeCopy(variant, facts, env) {
  const source = `provisioned from ${facts.source} (${facts.origin})`;
  return inspectLibTorch(join(copyDir(variant, env), 'torch'), { source, env });
}

/**
 * Makes a copy: `fill(folder)` fills a folder beside it and returns what the marker is to say. Only then does the folder
 * get its marker and its name, so a copy that exists is whole. Another process that makes the same copy is waited for.
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
