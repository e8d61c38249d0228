// The library that JPEG files are decoded with: where it is looked for, and how set-up of an installed package gets it.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fetchTurboJpeg, turboJpegStep } from '../../scripts/setup/turbojpeg.mjs';
import { run } from '../../scripts/support/process.mjs';
import {
  developedTurboJpeg,
  fetchedTurboJpeg,
  installedTurboJpeg,
  releaseOfTurboJpeg,
  turboJpegCandidates,
} from '../../scripts/support/turbojpeg.mjs';
import { root, temporaryFolder } from './scripts.js';

const readJson = (path: string) => JSON.parse(readFileSync(path, 'utf8'));
const developed = developedTurboJpeg();
const canFetch = developed !== undefined && existsSync(developed);

describe('candidates', () => {
  it('are those of the packages and the cache before that of the system', () => {
    const cache = temporaryFolder();
    const origins = turboJpegCandidates({ LAYERWISE_CACHE: cache }).map(({ origin }) => origin);
    expect(origins.slice(-2)).toEqual(['cache', 'system']);
    expect(origins).toContain('development');
    const [fetched] = turboJpegCandidates({ LAYERWISE_CACHE: cache }).filter(({ origin }) => origin === 'cache');
    expect(fetched!.path.startsWith(cache)).toBe(true);
  });

  it('are the one that is named, or none', () => {
    expect(turboJpegCandidates({ LAYERWISE_TURBOJPEG: '/a/b.so' })).toEqual([
      { path: '/a/b.so', origin: 'LAYERWISE_TURBOJPEG' },
    ]);
    expect(turboJpegCandidates({ LAYERWISE_TURBOJPEG: 'none' })).toEqual([]);
  });
});

it('the release that a library says of itself is the one that the cache folder is named by', () => {
  const text = join(temporaryFolder(), 'text');
  writeFileSync(text, 'no library');
  expect(releaseOfTurboJpeg(text)).toBeUndefined();
  if (!canFetch) return;
  expect(releaseOfTurboJpeg(developed)).toBe('3.1.2');
  expect(fetchedTurboJpeg({ LAYERWISE_CACHE: '/cache' })).toMatch(/^\/cache\/libjpeg-turbo-3\.1\.2-/);
});

it('set-up fetches the package that a clone has locked, alone', () => {
  const name = 'node_modules/@julusian/jpeg-turbo';
  const { packages } = readJson(join(root, 'scripts/setup/turbojpeg/package-lock.json'));
  const { version, integrity } = readJson(join(root, 'package-lock.json')).packages[name];
  expect(Object.keys(packages)).toEqual(['', name]);
  expect(packages[name]).toMatchObject({ version, integrity });
  expect(packages[''].dependencies).toEqual({ '@julusian/jpeg-turbo': version });
});

/** A package like the one that brings the library, in a tarball, and what locks it. */
async function lockedPackage({
  integrity,
  library = 'the library',
}: {
  integrity?: string;
  library?: string | null;
} = {}) {
  const folder = temporaryFolder();
  const made = join(folder, 'made');
  mkdirSync(made, { recursive: true });
  writeFileSync(join(made, 'package.json'), JSON.stringify({ name: '@julusian/jpeg-turbo', version: '2.3.0' }));
  if (library !== null) {
    const path = installedTurboJpeg(folder).replace(join(folder, 'node_modules', '@julusian/jpeg-turbo'), made);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, library);
  }
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: made });
  const [packed] = JSON.parse(stdout) as { filename: string; integrity: string }[];
  const source = join(folder, 'locked');
  mkdirSync(source);
  const dependencies = { '@julusian/jpeg-turbo': '2.3.0' };
  writeFileSync(join(source, 'package.json'), JSON.stringify({ name: 'x', private: true, dependencies }));
  const entry = {
    version: '2.3.0',
    resolved: `file:${join(folder, packed!.filename)}`,
    integrity: integrity ?? packed!.integrity,
  };
  const packages = { '': { name: 'x', dependencies }, 'node_modules/@julusian/jpeg-turbo': entry };
  writeFileSync(
    join(source, 'package-lock.json'),
    JSON.stringify({ name: 'x', lockfileVersion: 3, requires: true, packages }),
  );
  return source;
}

/** A set-up with a cache and a state directory of its own. */
function contextOf(env: Record<string, string> = {}) {
  const notes: string[] = [];
  const out = temporaryFolder();
  const cache = temporaryFolder();
  return {
    ...{ out, notes, cache },
    env: { PATH: process.env.PATH, HOME: cache, LAYERWISE_CACHE: cache, LAYERWISE_OUT: out, ...env },
    note: (line: string) => void notes.push(line),
    signal: new AbortController().signal,
  };
}

describe('fetching', () => {
  it('leaves the one library of this platform in the cache, once', async () => {
    const source = await lockedPackage();
    const context = contextOf();
    const target = fetchedTurboJpeg(context.env);
    await fetchTurboJpeg(source, context);
    expect(readFileSync(target, 'utf8')).toBe('the library');
    expect(readdirSync(dirname(target))).toHaveLength(1);
    expect(readdirSync(context.cache).filter((name) => name.includes('turbo'))).toHaveLength(1);
    await fetchTurboJpeg(join(source, 'gone'), context);
    expect(context.notes).toHaveLength(1);
  });

  it('refuses a package of another checksum, and one without a library for this platform', async () => {
    const wrong = `sha512-${Buffer.alloc(64, 1).toString('base64')}`;
    for (const [options, reason] of [
      [{ integrity: wrong }, /EINTEGRITY/],
      [{ library: null }, /^the package has none for /],
    ] as const) {
      const context = contextOf();
      await expect(fetchTurboJpeg(await lockedPackage(options), context)).rejects.toThrow(reason);
      expect(readdirSync(context.cache).filter((name) => name.includes('turbo'))).toEqual([]);
    }
  });
});

describe('the step of set-up', () => {
  /** Without a library in any package or system, a clone's addon and nothing to fetch from. */
  const addon = join(root, 'out', 'cmake', 'Release', 'layerwise.node');

  it.runIf(canFetch && existsSync(addon))('fetches nothing where there is a library, and is then done', async () => {
    const context = contextOf({ LAYERWISE_ADDON: addon });
    expect(turboJpegStep.inputs(context)).not.toEqual(turboJpegStep.inputs(context));
    expect(await turboJpegStep.run(context)).toBe(developed);
    expect(context.notes).toEqual([]);
    expect(turboJpegStep.inputs(context)).toEqual(turboJpegStep.inputs(context));
    expect(existsSync(fetchedTurboJpeg(context.env))).toBe(false);
  });

  it('does nothing where the environment decides', async () => {
    const context = contextOf({ LAYERWISE_TURBOJPEG: 'none' });
    expect(await turboJpegStep.run(context)).toBe('LAYERWISE_TURBOJPEG is none');
    expect(turboJpegStep.inputs(context)).toEqual(turboJpegStep.inputs(context));
  });

  it('goes on without what it cannot fetch, says why and what follows, and is due again', async () => {
    // No addon, so that no library can be opened, and no npm.
    const context = contextOf({ PATH: temporaryFolder() });
    expect(await turboJpegStep.run(context)).toBe('none');
    expect(context.notes.at(-1)).toMatch(/^libjpeg-turbo's library could not be had: .*npm/);
    expect(context.notes.at(-1)).toContain('JPEG files are decoded by sharp, which takes longer');
    expect(turboJpegStep.inputs(context)).not.toEqual(turboJpegStep.inputs(context));
  });
});
