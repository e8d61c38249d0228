// Files of a run directory, damaged before the run is opened again: it is refused in words, or ends as it should.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { expect } from 'vitest';
import { resume, type TrainingOutcome, train } from '../../lib/training/index.js';
import { filesUnder } from '../../scripts/support/files.mjs';
import { smallRecipe } from '../training/runs.js';
import { Choices } from './choices.js';
import { mutation } from './format.js';
import type { Fuzzed } from './fuzzed.js';
import { mutateJson, mutateLines } from './mutations.js';

/** The files of a run directory, by their paths in it. */
type Run = ReadonlyMap<string, Buffer>;

interface Runs {
  /** Stopped after the first of two steps of the last epoch of two of the last layer of two. */
  readonly stopped: Run;
  readonly finished: Run;
}

interface Opened {
  /** The run directory, after the run has ended. */
  readonly folder: string;
  readonly result: TrainingOutcome['result'];
  /** The damaged file, as it was given. */
  readonly text: string;
  readonly runs: Runs;
}

export interface RunFile {
  readonly name: string;
  readonly run: keyof Runs;
  readonly file: string;
  readonly mutateText: (text: string, choices: Choices) => string;
  /** Names of errors that may come. */
  readonly errors: readonly string[];
  /** Throws for a run that has not ended as it should. */
  readonly check: (opened: Opened) => void;
}

export const runFiles: readonly RunFile[] = [
  {
    name: 'run-config',
    run: 'stopped',
    file: 'config.json',
    mutateText: mutateJson,
    // Another data set than before may not be where the record says; with another learning rate the loss may overflow.
    errors: ['RunDirectoryError', 'RecipeError', 'DataError', 'NonFiniteLossError'],
    check: (opened) => {
      // What decides a result: with the same, it is the same.
      const deciding = (text: string): string => {
        const { recipe, threads } = JSON.parse(text);
        return JSON.stringify([recipe, threads]);
      };
      if (deciding(opened.text) === deciding(String(opened.runs.stopped.get('config.json')))) expectSameEnd(opened);
      expect(opened.result.layers.map(({ layer }) => layer)).toEqual([0, 1]);
    },
  },
  {
    name: 'run-state',
    run: 'stopped',
    file: 'checkpoint/state.json',
    mutateText: mutateJson,
    errors: ['RunDirectoryError'],
    check: (opened) => {
      expectSameEnd(opened);
      for (const { trainLoss, seconds } of opened.result.layers) {
        expect(Number.isFinite(trainLoss) && seconds! >= 0).toBe(true);
      }
    },
  },
  {
    name: 'run-metrics',
    run: 'stopped',
    file: 'metrics.jsonl',
    mutateText: mutateLines,
    errors: ['RunDirectoryError'],
    check: (opened) => {
      expectSameEnd(opened);
      expect(opened.result.layers.map(({ layer }) => layer)).toEqual([0, 1]);
    },
  },
  {
    name: 'run-result',
    run: 'finished',
    file: 'result.json',
    mutateText: mutateJson,
    errors: ['RunDirectoryError'],
    // It is given as it is, with null for the figures that it lacks.
    check: ({ folder, result, text, runs }) => {
      const layers = result.layers.map((layer) =>
        Object.fromEntries(Object.entries(layer).filter(([, value]) => value !== null)),
      );
      expect(JSON.parse(text)).toMatchObject({ ...result, layers });
      expect(networkIn(folder).equals(networkOf(runs.finished))).toBe(true);
      expect(result.layers.at(-1)!.layer).toBe(1);
      expect(result.confusion?.flat().reduce((sum, count) => sum + count) ?? 8).toBe(8);
      for (const { testTop1 } of result.layers) expect(testTop1 ?? 0).toBeLessThanOrEqual(100);
    },
  },
];

const NETWORK = 'model.safetensors';
const networkIn = (folder: string): Buffer => readFileSync(join(folder, NETWORK));
const networkOf = (run: Run): Buffer => run.get(NETWORK)!;

/** The same network, and all epochs of all layers. */
function expectSameEnd({ folder, runs }: Opened): void {
  expect(networkIn(folder).equals(networkOf(runs.finished))).toBe(true);
  const lines = readFileSync(join(folder, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  const epochs = lines.map((line) => JSON.parse(line)).map(({ layer, epoch }) => [layer, epoch]);
  expect(epochs).toEqual([0, 1].flatMap((layer) => [0, 1].map((epoch) => [layer, epoch])));
}

let made: Promise<Runs> | undefined;

/** The bytes of the file as the run left it. */
export async function goodBytes({ run, file }: RunFile): Promise<Buffer> {
  made ??= makeRuns();
  return (await made)[run].get(file)!;
}

/** Opens the run with these bytes for the file. Returns whether it was refused; throws for any other end than it should have. */
export async function isRefused({ run, file, errors, check }: RunFile, bytes: Uint8Array): Promise<boolean> {
  made ??= makeRuns();
  const runs = await made;
  return inFolder(async (folder) => {
    for (const [path, content] of [...runs[run], [file, bytes] as const]) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), content);
    }
    try {
      const { result } = await resume(folder);
      check({ folder, result, text: Buffer.from(bytes).toString(), runs });
      return false;
    } catch (error) {
      const { name, message } = error as Error;
      // The others name the recipe's value or the data.
      if (errors.includes(name) && (name !== 'RunDirectoryError' || message.includes(folder))) return true;
      throw new Error(`${name}: ${message}\nfor the ${file}\n${Buffer.from(bytes)}`, { cause: error });
    }
  });
}

/** One third of the damage is to bytes, the rest to what the text says. */
export function damagedRunFile(runFile: RunFile): Fuzzed {
  return {
    name: runFile.name,
    async runCase(position) {
      const good = await goodBytes(runFile);
      const choices = new Choices(position);
      const damaged = choices.chance(1 / 3)
        ? mutation([good], position)
        : Buffer.from(runFile.mutateText(good.toString(), choices));
      await isRefused(runFile, damaged);
    },
  };
}

async function makeRuns(): Promise<Runs> {
  const recipe = smallRecipe({ dataset: { trainLimit: 16, testLimit: 8 }, training: { batchSize: 8 } });
  const finished = await inFolder(async (out) => {
    await train({ recipe, out });
    return filesOf(out);
  });
  const stopped = await inFolder(async (out) => {
    const controller = new AbortController();
    const run = train({
      recipe,
      out,
      signal: controller.signal,
      onEvent: (event) => event.type === 'step' && event.layer === 1 && event.epoch === 1 && controller.abort(),
    });
    await expect(run).rejects.toMatchObject({ code: 'INTERRUPTED' });
    return filesOf(out);
  });
  return { stopped, finished };
}

async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'layerwise-fuzz-'));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const filesOf = (folder: string): Run =>
  new Map(filesUnder(folder).map((path) => [relative(folder, path), readFileSync(path)]));
