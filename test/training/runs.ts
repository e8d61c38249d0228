// Small runs, and what of a run must not depend on whether it was interrupted.
import { mkdtempSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import { overrideRecipe, presetRecipe, type Recipe } from '../../lib/recipe/index.js';
import { type TrainingEvent, TrainingInterrupted, train } from '../../lib/training/index.js';

/** A folder for the runs of a test file, removed at its end. */
export function temporaryFolder(): (name: string) => string {
  const folder = mkdtempSync(join(tmpdir(), 'layerwise-runs-'));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  return (name) => join(folder, name);
}

/** Two layers, two epochs of four steps (the last of fewer images), and an evaluation of three batches. */
export function smallRecipe(overrides: unknown = {}, preset = 'vgg11-layerwise'): Recipe {
  const recipe = overrideRecipe(presetRecipe(preset, { dataset: 'shapes', onCuda: false }), {
    model: { width: 2, layers: 2 },
    dataset: { trainLimit: 60, testLimit: 20 },
    training: { epochs: 2, batchSize: 16, milestones: [1] },
    evaluation: { batchSize: 8 },
    device: 'cpu',
    precision: 'fp32',
    threads: 1,
  });
  return overrideRecipe(recipe, overrides);
}

/** Begins a run that is stopped at the first event that `when` names; by default after its first step, with a checkpoint. */
export async function startAndStop(
  options: Parameters<typeof train>[0],
  when: (event: TrainingEvent) => boolean = ({ type }) => type === 'start',
): Promise<void> {
  const controller = new AbortController();
  const stopped = train({
    ...options,
    signal: controller.signal,
    onEvent: (event) => {
      options.onEvent?.(event);
      if (when(event)) controller.abort();
    },
  });
  await expect(stopped).rejects.toThrow(TrainingInterrupted);
}

const json = (file: string): unknown => JSON.parse(readFileSync(file, 'utf8'));

function readIfThere(file: string): string | null {
  try {
    return readFileSync(file).toString('base64');
  } catch {
    return null;
  }
}

const TIMING = new Set(['seconds', 'imagesPerSecond']);
const withoutTiming = (record: object): object =>
  Object.fromEntries(Object.entries(record).filter(([name]) => !TIMING.has(name)));

/** What a finished run is, but for the time it took: the bytes of its networks, its metrics and its results, confusions and notes among them. */
export function productOf(directory: string): object {
  const metrics = readFileSync(join(directory, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  const { layers, seconds, ...result } = json(join(directory, 'result.json')) as { layers: object[]; seconds: number };
  return {
    model: readFileSync(join(directory, 'model.safetensors')).toString('base64'),
    auxiliaryHeads: readIfThere(join(directory, 'auxiliary-heads.safetensors')),
    metrics: metrics.map((line) => withoutTiming(JSON.parse(line))),
    layers: layers.map(withoutTiming),
    ...result,
  };
}

/** Where a run was when it told an event, for the names of tests and failures. */
export function positionOf(event: TrainingEvent): string {
  if (event.type === 'start' || event.type === 'done') return event.type;
  const epoch = 'epoch' in event ? `, epoch ${event.epoch}` : '';
  return `${event.type} at layer ${event.layer}${epoch}${'step' in event ? `, step ${event.step}` : ''}`;
}
