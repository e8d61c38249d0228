// The list of bad images, as a killed process or a full disk may leave it.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { WriteError } from '#scripts/support/files.mjs';
import { BadImageLog } from '../../lib/run/bad-image-log.js';

const folder = mkdtempSync(join(tmpdir(), 'layerwise-bad-images-'));
afterAll(() => rmSync(folder, { recursive: true }));

const bad = (name: string) => ({ path: `/data/${name}.jpg`, reason: 'it is damaged' });
const line = (name: string): string => `${JSON.stringify(bad(name))}\n`;

it.each([
  ['in the middle of a line', `${line('a')}{"path":"/data/b.j`],
  ['before the end of a line', `${line('a')}${line('b').trimEnd()}`],
  ['and was joined to another line by an earlier version', `${line('a')}{"path":"/data/b.j${line('b')}`],
  ['and holds what is no record', `${line('a')}3\nnull\n{"path":4}\n`],
])('was left %s: the next image has a line of its own, and each is listed once', (name, text) => {
  const file = join(folder, `${name}.jsonl`);
  writeFileSync(file, text);
  for (const round of [1, 2]) {
    const log = new BadImageLog();
    log.add(bad('a'));
    log.open(file);
    log.add(bad('b'));
    log.add(bad('b'));
    expect([round, readFileSync(file, 'utf8')]).toEqual([round, `${line('a')}${line('b')}`]);
    expect(log.notes[0]).toMatch(/^2 image files could not be used/);
  }
});

it('says which file could not be written', () => {
  const log = new BadImageLog();
  log.open(join(folder, 'no folder', 'bad-images.jsonl'));
  expect(() => log.add(bad('a'))).toThrow(WriteError);
});
