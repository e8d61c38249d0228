import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** What a clock says differs from run to run. */
const CLOCK = new Set(['seconds', 'imagesPerSecond']);

/** Figures that an earlier commit writes under another name. */
const RENAMED = new Map([['lr', 'learningRate']]);

/**
 * What differs between two run directories that should hold the same bits: one line each, none where they are equal. Every
 * tensor of the network is compared byte by byte, every figure of result.json and metrics.jsonl but times exactly.
 * @param {string} before
 * @param {string} after
 * @returns {string[]}
 */
export function differences(before, after) {
  return [
    ...tensorDifferences(read(before, 'model.safetensors'), read(after, 'model.safetensors')),
    ...valueDifferences('result.json', json(before, 'result.json'), json(after, 'result.json')),
    ...valueDifferences('metrics.jsonl', lines(before, 'metrics.jsonl'), lines(after, 'metrics.jsonl')),
  ];
}

/** @param {string} folder @param {string} file */
function read(folder, file) {
  const path = join(folder, file);
  if (!existsSync(path)) throw new Error(`expected ${path}: the run left none`);
  return readFileSync(path);
}

/** @param {string} folder @param {string} file @returns {unknown} */
const json = (folder, file) => JSON.parse(read(folder, file).toString());

/** @param {string} folder @param {string} file @returns {unknown[]} */
function lines(folder, file) {
  const text = read(folder, file).toString().trimEnd();
  return text.split('\n').map((line) => renamed(JSON.parse(line)));
}

/** @param {Record<string, unknown>} figures */
const renamed = (figures) =>
  Object.fromEntries(Object.entries(figures).map(([name, value]) => [RENAMED.get(name) ?? name, value]));

/** @param {Buffer} before @param {Buffer} after */
function tensorDifferences(before, after) {
  const [old, current] = [tensorsOf(before), tensorsOf(after)];
  const names = new Set([...old.keys(), ...current.keys()]);
  return [...names].flatMap((name) => {
    const [one, other] = [old.get(name), current.get(name)];
    if (one !== undefined && other !== undefined && one.equals(other)) return [];
    const what = one === undefined ? 'is new' : other === undefined ? 'is gone' : 'differs';
    return [`model.safetensors: ${name} ${what}`];
  });
}

/**
 * Each tensor's dtype, shape and bytes, by name: a header's length, the header in JSON, the bytes.
 * @param {Buffer} file
 * @returns {Map<string, Buffer>}
 */
function tensorsOf(file) {
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, start).toString());
  delete header.__metadata__;
  return new Map(
    Object.entries(header).map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [from, to],
        },
      ]) => [name, Buffer.concat([Buffer.from(`${dtype} ${shape} `), file.subarray(start + from, start + to)])],
    ),
  );
}

/** @param {string} path @param {unknown} before @param {unknown} after @returns {string[]} */
function valueDifferences(path, before, after) {
  if (!isObject(before) || !isObject(after)) {
    return Object.is(before, after) ? [] : [`${path}: ${shown(before)} before, ${shown(after)} now`];
  }
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names]
    .filter((name) => !CLOCK.has(name))
    .flatMap((name) => valueDifferences(`${path} ${name}`, before[name], after[name]));
}

/** @param {unknown} value @returns {value is Record<string, unknown>} */
const isObject = (value) => typeof value === 'object' && value !== null;

/** @param {unknown} value */
const shown = (value) => (value === undefined ? 'nothing' : JSON.stringify(value));
