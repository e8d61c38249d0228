// A tiny run, stopped or finished, of which one file is damaged before it is opened again.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import { resume, type TrainingOutcome, train } from '../../lib/training/index.js';
import { smallRecipe } from '../training/runs.js';
import { type Draw, drawsOf, FUZZ_COUNT, FUZZ_SEED, mutateBytes } from './mutations.js';

const RECIPE = smallRecipe({ dataset: { trainLimit: 16, testLimit: 8 }, training: { batchSize: 8 } });

export interface Runs {
  /** Stopped after the first of two steps of the last epoch of two of the last layer of two. */
  readonly stopped: string;
  readonly finished: string;
  readonly folder: string;
}

export async function makeRuns(): Promise<Runs> {
  const folder = mkdtempSync(join(tmpdir(), 'layerwise-fuzz-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const [stopped, finished] = [join(folder, 'stopped'), join(folder, 'finished')];
  await train({ recipe: RECIPE, out: finished });
  const controller = new AbortController();
  const run = train({
    recipe: RECIPE,
    out: stopped,
    signal: controller.signal,
    onEvent: (event) => event.type === 'step' && event.layer === 1 && event.epoch === 1 && controller.abort(),
  });
  await expect(run).rejects.toMatchObject({ code: 'INTERRUPTED' });
  return { stopped, finished, folder };
}

/** The run's network, by its bytes. */
export const networkOf = (run: string): string => readFileSync(join(run, 'model.safetensors'), 'base64');

/** The layer and the epoch of each line of metrics. */
export const epochsOf = (run: string): [number, number][] =>
  readFileSync(join(run, 'metrics.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
    .map(({ layer, epoch }) => [layer, epoch]);

export const ALL_EPOCHS = [0, 1].flatMap((layer) => [0, 1].map((epoch) => [layer, epoch]));

interface Target {
  readonly folder: string;
  /** The run that is damaged, and the file in it. */
  readonly run: string;
  readonly file: string;
  readonly mutateText: (text: string, draw: Draw) => string;
  /** Names of errors that may come. */
  readonly errors: readonly string[];
  /** What must hold of a run that was gone on with; the text is that of the damaged file, as it was given. */
  readonly check: (run: string, outcome: TrainingOutcome, text: string) => void;
}

/** Damages the file again and again: each time the run is refused in words, or ends as it should. Returns how many were refused. */
export async function fuzz(target: Target): Promise<number> {
  const original = readFileSync(join(target.run, target.file));
  let refused = 0;
  for (let number = 0; number < FUZZ_COUNT; number++) {
    const draw = drawsOf(FUZZ_SEED, number);
    const bytes =
      draw(3) === 0 ? mutateBytes(original, draw) : Buffer.from(target.mutateText(original.toString(), draw));
    const run = join(target.folder, 'damaged');
    cpSync(target.run, run, { recursive: true });
    writeFileSync(join(run, target.file), bytes);
    const what = `mutation ${number} of seed ${FUZZ_SEED}:\n${bytes}`;
    try {
      const outcome = await resume(run);
      try {
        target.check(run, outcome, bytes.toString());
      } catch (error) {
        throw new Error(`${what}\n${(error as Error).message}`, { cause: error });
      }
    } catch (error) {
      const { name, message } = error as Error;
      if (!target.errors.includes(name)) throw new Error(`${what}\n${name}: ${message}`, { cause: error });
      expect(message.length, what).toBeGreaterThan(20);
      refused++;
    } finally {
      rmSync(run, { recursive: true });
    }
  }
  return refused;
}
