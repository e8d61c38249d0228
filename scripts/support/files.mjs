import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** What a JSON file holds, or undefined when it is missing or not JSON (a file that a crash left half written). */
export function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Writes a JSON file whole or not at all. */
export function writeJson(path, value) {
  mkdirSync(dirname(path), { recursive: true });
  const partial = `${path}.${process.pid}.partial`;
  writeFileSync(partial, `${JSON.stringify(value, null, 2)}\n`);
  renameSync(partial, path);
}

/** The text of a file, or '' when there is none. */
export function readText(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** The files under a folder, sorted, as full paths; none when the folder is missing. */
export function filesUnder(folder, accept = () => true) {
  let entries;
  try {
    entries = readdirSync(folder, { withFileTypes: true, recursive: true });
  } catch {
    return [];
  }
  return entries
    .filter((entry) => entry.isFile() && accept(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** One digest over names and contents; a missing file counts as its absence. */
export function digestFiles(paths) {
  const hash = createHash('sha256');
  for (const path of paths) {
    hash.update(`${path}\0`);
    try {
      const content = readFileSync(path);
      hash.update(`${content.length}\0`).update(content);
    } catch {
      hash.update('missing\0');
    }
  }
  return hash.digest('hex');
}

/** Size and modification time: enough to notice that a large file was replaced, without reading it. */
export function identityOf(path) {
  try {
    const { size, mtimeMs } = statSync(path);
    return `${size}@${mtimeMs}`;
  } catch {
    return 'missing';
  }
}
