// node bench/resampling.mjs --photographs DIR [--rounds 15]
//
// What scaling costs beside LibTorch's operator, decoding excluded: native/resampling.cpp, at::_upsample_bilinear2d_aa on uint8
// channels last (of three channels, and of the four that the decoder has, whose result is packed then), and Pillow, on one thread,
// whose computing time is taken; and how far the results are from Pillow's. DIR has a folder of JPEG files for each class.
// LAYERWISE_BENCH_PYTHON names a Python with Pillow and NumPy, CXX a compiler.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { outDir } from '../scripts/support/paths.mjs';
import { pairedRatio, summarize } from './statistics.mjs';

/**
 * @typedef {{ mean: number, worst: number }} Difference of 255
 * @typedef {{ width: number, height: number, scaledWidth: number, scaledHeight: number, shownWidth: number, shownHeight: number,
 *   microseconds: { ours: number[], libtorch3: number[], libtorch4: number[] },
 *   fromPillow: { ours: Difference, libtorch: Difference }, areEqual: boolean }} Measured
 */

const { values: flags } = parseArgs({
  options: { photographs: { type: 'string' }, rounds: { type: 'string', default: '15' } },
});
if (flags.photographs === undefined) {
  console.error('bench: --photographs: expected a folder of JPEG files for each class, got nothing');
  process.exit(2);
}
const python = process.env.LAYERWISE_BENCH_PYTHON || 'python3';
const folder = mkdtempSync(join(tmpdir(), 'layerwise-resampling-'));
try {
  const program = compile();
  const reference = join(import.meta.dirname, 'reference', 'resampling.py');
  /** @type {{ pillow: string, images: number, files: string[], microseconds: number[] }} */
  const pillow = JSON.parse(execFileSync(python, [reference, flags.photographs, folder], { encoding: 'utf8' }));
  const stdout = execFileSync(program, [flags.rounds, ...pillow.files], { encoding: 'utf8' });
  const [info, ...cases] = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  console.log(
    `${cpus()[0].model}, LibTorch ${info.libtorch} (${info.capability}), Pillow ${pillow.pillow}, ${pillow.images} photographs; ` +
      new Date().toISOString().slice(0, 10),
  );
  /** @type {Measured[]} */ (cases).forEach((measured, i) => {
    show(measured, pillow.microseconds[i]);
  });
} finally {
  rmSync(folder, { recursive: true });
}

/** Against the LibTorch that the addon was compiled against, as it is compiled. */
function compile() {
  /** @type {{ includeDirs: string[], libDir: string, libraries: string[], cxx11Abi: boolean }} */
  const libtorch = JSON.parse(readFileSync(join(outDir(), 'libtorch.json'), 'utf8'));
  const program = join(folder, 'resampling');
  const sources = ['resampling.cpp', join('..', 'native', 'resampling.cpp')];
  execFileSync(process.env.CXX || 'c++', [
    ...['-std=c++20', '-O2', `-D_GLIBCXX_USE_CXX11_ABI=${libtorch.cxx11Abi ? 1 : 0}`],
    ...libtorch.includeDirs.flatMap((path) => ['-isystem', path]),
    ...sources.map((source) => join(import.meta.dirname, source)),
    ...libtorch.libraries,
    ...[`-Wl,-rpath,${libtorch.libDir}`, '-o', program],
  ]);
  return program;
}

/**
 * @param {Measured} measured
 * @param {number} pillow microseconds
 */
function show(
  { width, height, scaledWidth, scaledHeight, shownWidth, shownHeight, microseconds, fromPillow, areEqual },
  pillow,
) {
  const shown =
    shownWidth === scaledWidth && shownHeight === scaledHeight ? '' : `, of it ${shownWidth} x ${shownHeight}`;
  const { ours, libtorch3, libtorch4 } = microseconds;
  /** @param {number[]} other */
  const ratio = (other) => {
    const { median, low, high } = pairedRatio(ours, other);
    return `${median.toFixed(2)} [${low.toFixed(2)}, ${high.toFixed(2)}]`;
  };
  /** @param {number[]} values */
  const time = (values) => summarize(values).median.toFixed(0);
  /** @param {Difference} difference */
  const difference = ({ mean, worst }) => `${mean.toFixed(4)}, ${worst} at most`;
  console.log(
    `${width} x ${height} to ${scaledWidth} x ${scaledHeight}${shown}: ours ${time(ours)} us, LibTorch ${time(libtorch3)} ` +
      `(four channels ${time(libtorch4)}), Pillow ${pillow.toFixed(0)}; ours to LibTorch ${ratio(libtorch3)} (${ratio(libtorch4)}); ` +
      `from Pillow: ours ${difference(fromPillow.ours)}, LibTorch ` +
      (areEqual ? 'the same bits as ours' : difference(fromPillow.libtorch)),
  );
}
