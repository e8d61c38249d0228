import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { filesUnder } from '../support/files.mjs';
import { root } from '../support/paths.mjs';

/**
 * A line for each link of pages and Markdown documents that leads nowhere: to a file that is not there, or to a heading that the
 * document does not have. Links to other hosts are not followed.
 * @param {readonly string[]} paths files and folders
 */
export function brokenLinks(paths) {
  return paths
    .flatMap((path) => (statSync(path).isDirectory() ? filesUnder(path, (name) => /\.(html|md)$/.test(name)) : [path]))
    .flatMap((file) =>
      linksOf(file)
        .filter((link) => !leads(file, link))
        .map((link) => `${relative(root, file)}: ${link} leads nowhere`),
    );
}

/** @param {string} file */
function linksOf(file) {
  const text = readFileSync(file, 'utf8');
  const pattern = file.endsWith('.html') ? /\s(?:href|src)="([^"]*)"/g : /\]\(([^)\s]+)\)/g;
  const links = [...withoutCode(text, file).matchAll(pattern)].map(([, link]) => link.replaceAll('&amp;', '&'));
  return [...new Set(links)].filter((link) => !/^(https?|mailto|data|javascript):/.test(link));
}

/**
 * What stands in code is no link.
 * @param {string} text
 * @param {string} file
 */
function withoutCode(text, file) {
  return file.endsWith('.md') ? text.replace(/^```[\s\S]*?^```/gm, '').replace(/`[^`\n]*`/g, '') : text;
}

/**
 * @param {string} file
 * @param {string} link
 */
function leads(file, link) {
  const [path, anchor = ''] = link.split('#', 2);
  const target = path === '' ? file : resolve(dirname(file), decodeURIComponent(path));
  if (!existsSync(target)) return false;
  if (anchor === '' || !/\.(html|md)$/.test(target)) return true;
  return anchorsOf(target).has(decodeURIComponent(anchor));
}

/** @type {Map<string, ReadonlySet<string>>} */
const known = new Map();

/** @param {string} file */
function anchorsOf(file) {
  const found = known.get(file) ?? new Set(file.endsWith('.html') ? idsOf(file) : headingsOf(file));
  known.set(file, found);
  return found;
}

/** @param {string} file */
function idsOf(file) {
  return [...readFileSync(file, 'utf8').matchAll(/\sid="([^"]*)"/g)].map(([, id]) => id);
}

/**
 * As GitHub names the headings of a document.
 * @param {string} file
 */
function headingsOf(file) {
  return [...readFileSync(file, 'utf8').matchAll(/^#+ +(.*)$/gm)].map(([, heading]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .trim()
      .replaceAll(' ', '-'),
  );
}
