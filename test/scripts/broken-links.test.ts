import { mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { expect, test } from 'vitest';
import { brokenLinks } from '../../scripts/docs/broken-links.mjs';
import { root, temporaryFolder } from './scripts.js';

test('lists the links of pages and documents that lead nowhere, and no other', () => {
  const folder = temporaryFolder();
  mkdirSync(join(folder, 'pages'));
  const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
  write(
    'pages/a.html',
    '<p id="here"><a href="b.html#there">b</a><a href="#here">a</a><a href="https://example.org/x">x</a>',
  );
  write('pages/b.html', '<p id="there"><a href="gone.html">c</a><img src="gone.png"><a href="a.html#nowhere">d</a>');
  const lines = ['# One: two (three)', '[a](pages/a.html#here)', '[b](#one-two-three)', '[c](#four)', '[d](pages)'];
  write('text.md', [...lines, '`[e](gone)`', '```', '[f](gone)', '```'].join('\n'));
  const at = (name: string) => relative(root, join(folder, name));
  expect(brokenLinks([folder])).toEqual([
    `${at('pages/b.html')}: gone.html leads nowhere`,
    `${at('pages/b.html')}: gone.png leads nowhere`,
    `${at('pages/b.html')}: a.html#nowhere leads nowhere`,
    `${at('text.md')}: #four leads nowhere`,
  ]);
});
