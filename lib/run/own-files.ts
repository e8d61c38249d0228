// The paths that belong to a run, whether or not the file exists yet: nothing else may be written there.
import { existsSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { readJson } from './run-directory.js';

const FILES: ReadonlySet<string> = new Set([
  ...['config.json', 'metrics.jsonl', 'result.json', 'report.html', 'compression.json', 'bad-images.jsonl'],
  'early-exit.json',
  ...['model.safetensors', 'auxiliary-heads.safetensors', 'run.lock', 'checkpoint', 'features'],
]);
const FOLDERS: ReadonlySet<string> = new Set(['checkpoint', 'features']);

/** The run directory that a path belongs to, also through links to directories; null for every other path. */
export async function runThatOwns(file: string): Promise<string | null> {
  const folder = await realpath(dirname(file)).catch(() => dirname(file));
  if (FILES.has(basename(file)) && (await isRunDirectory(folder))) return folder;
  if (FOLDERS.has(basename(folder)) && (await isRunDirectory(dirname(folder)))) return dirname(folder);
  return null;
}

/** By its config.json, which other programs have too; a damaged one counts, since the rest may still be a run's. */
export async function isRunDirectory(folder: string): Promise<boolean> {
  const file = join(folder, 'config.json');
  if (!existsSync(file)) return false;
  const config = await readJson(file).catch(() => ({ package: 'layerwise' }));
  return typeof config === 'object' && config !== null && Reflect.get(config, 'package') === 'layerwise';
}
