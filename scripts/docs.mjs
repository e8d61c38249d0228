// `npm run docs`: the pages of the API in out/docs, made from the doc comments of what `layerwise` exports. Fails where an export has
// no comment, or where a link, also one of the documents in Markdown, leads nowhere.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { brokenLinks } from './docs/broken-links.mjs';
import { installTools, toolsFolder } from './setup/locked-tools.mjs';
import { setUp } from './setup.mjs';
import { reasonOf } from './support/errors.mjs';
import { outDir, root } from './support/paths.mjs';
import { run } from './support/process.mjs';

/** TypeDoc, with the TypeScript whose interface it needs. */
const own = join(root, 'scripts', 'docs');

process.exitCode = await main();

/** @returns {Promise<number>} */
async function main() {
  const { code } = await setUp();
  if (code !== 0) return code;
  try {
    const pages = join(outDir(), 'docs');
    await writePages(pages);
    const markdown = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'docs', 'bench', 'examples'];
    const broken = brokenLinks([pages, ...markdown.map((name) => join(root, name))]);
    for (const link of broken) process.stderr.write(`${link}\n`);
    if (broken.length > 0) return 1;
    process.stdout.write(`${join(pages, 'index.html')}\n`);
    return 0;
  } catch (error) {
    process.stderr.write(`${reasonOf(error)}\n`);
    return 1;
  }
}

/** @param {string} pages */
async function writePages(pages) {
  const tools = toolsFolder(own, join(outDir(), 'docs-tools'));
  if (!existsSync(tools)) {
    await installTools(own, tools, { env: process.env, out: outDir(), signal: new AbortController().signal });
  }
  const program = join(tools, 'node_modules', 'typedoc', 'bin', 'typedoc');
  const args = [program, '--options', join(own, 'typedoc.json'), '--out', pages];
  const { code, stdout, stderr } = await run(process.execPath, args, { cwd: own });
  if (code !== 0) throw new Error(`TypeDoc ended with exit code ${code}:\n${stdout}${stderr}`);
}
