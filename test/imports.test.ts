// What imports what: the first diagram of ARCHITECTURE.md, held against the import statements.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '..');
const LIB = join(ROOT, 'lib');

/** The folders of lib/, from the left of the diagram to its right. */
const FOLDERS = /^ {4}lib\/ +(.*)$/m
  .exec(readFileSync(join(ROOT, 'ARCHITECTURE.md'), 'utf8'))![1]!
  .split('->')
  .map((name) => name.trim());

interface Import {
  /** From lib/, as `training/train.ts`. */
  readonly file: string;
  /** A path from lib/ without its extension, or a package. */
  readonly target: string;
}

const IMPORTS: readonly Import[] = readdirSync(LIB, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .flatMap((file) => {
    const text = readFileSync(join(LIB, file), 'utf8');
    const names = [...text.matchAll(/\b(?:from|import)\s*\(?\s*'([^']+)'/g)].map(([, name]) => name!);
    return names.map((name) => {
      const target = name.startsWith('.') ? relative(LIB, join(LIB, dirname(file), name)) : name;
      return { file: file.split(sep).join('/'), target: target.split(sep).join('/').replace(/\.js$/, '') };
    });
  });

const folderOf = (path: string): string => (path.includes('/') ? path.slice(0, path.indexOf('/')) : '');

describe('imports in lib/', () => {
  it('are found, and the diagram names all folders', () => {
    const folders = readdirSync(LIB, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    expect(folders.map(({ name }) => name).sort()).toEqual([...FOLDERS].sort());
    for (const target of ['nn/index', 'text-file', '#scripts/support/lock.mjs', 'zod']) {
      expect(IMPORTS.map((one) => one.target)).toContain(target);
    }
  });

  it('point to the right only', () => {
    const wrong = IMPORTS.filter(({ file, target }) => {
      const [from, to] = [FOLDERS.indexOf(folderOf(file)), FOLDERS.indexOf(folderOf(target))];
      return from >= 0 && to >= 0 && to < from;
    });
    expect(wrong).toEqual([]);
  });

  it('of files outside the folders take nothing from them, but for the index', () => {
    const wrong = IMPORTS.filter(
      ({ file, target }) => folderOf(file) === '' && file !== 'index.ts' && FOLDERS.includes(folderOf(target)),
    );
    expect(wrong).toEqual([]);
    expect(IMPORTS.filter(({ target }) => target === 'index')).toEqual([]);
  });

  it('never reach tests, benchmarks or examples', () => {
    expect(IMPORTS.filter(({ target }) => target.startsWith('..'))).toEqual([]);
  });
});
