import { datasetTitle } from '../data/index.js';
import { type Blocks, blockCount, modelTitle } from '../models/index.js';
import type { EpochRecord, LayerResult, RecordedRecipe, RecordedValue, RunRecord } from '../run/index.js';

/** A layer as the report prints it: the figures of its last epoch. */
export interface LayerSummary extends LayerResult {
  /** Still in training when the run was read. */
  inTraining: boolean;
  /** How many of its epochs are recorded. */
  epochs: number;
}

export interface RunSummary {
  /** First layer first; of an unfinished run from its epochs. */
  layers: LayerSummary[];
  finished: boolean;
  /** Trained as one network, not a layer at a time. */
  endToEnd: boolean;
  /** Whether its layers train at once, each by its own head. */
  atOnce: boolean;
  /** How the reader knows the model and the data set. */
  model: string;
  dataset: string;
  /** Figures that the recipe states, where it does. */
  planned: { layers: number | undefined; epochs: number | undefined };
  /** Seconds of training so far, or in all. */
  seconds: number;
}

export function summariseRun(run: RunRecord): RunSummary {
  const { config, epochs, result } = run;
  const { recipe } = config;
  const schedule = textAt(recipe, 'training', 'schedule');
  const atOnce = schedule === 'simultaneous';
  const planned = {
    layers: blockCountAt(recipe) ?? numberAt(recipe, 'model', 'layers') ?? numberAt(recipe, 'training', 'layers'),
    epochs: numberAt(recipe, 'training', 'epochs'),
  };
  return {
    layers: result === undefined ? layersSoFar(run, { ...planned, atOnce }) : finishedLayers(run, result.layers),
    finished: result !== undefined,
    endToEnd: schedule === 'end-to-end',
    atOnce,
    model: titleOf(recipe, 'model') ?? config.preset,
    dataset: titleOf(recipe, 'dataset') ?? 'its data set',
    planned,
    seconds: result?.seconds ?? epochs.reduce((sum, one) => sum + one.seconds, 0),
  };
}

function finishedLayers(run: RunRecord, layers: readonly LayerResult[]): LayerSummary[] {
  const byLayer = epochsByLayer(run);
  return [...layers]
    .sort((a, b) => a.layer - b.layer)
    .map((one) => ({ ...one, inTraining: false, epochs: byLayer.get(one.layer)?.length ?? 0 }));
}

function layersSoFar(
  run: RunRecord,
  { atOnce, ...planned }: RunSummary['planned'] & Pick<RunSummary, 'atOnce'>,
): LayerSummary[] {
  const byLayer = epochsByLayer(run);
  const latest = run.epochs.at(-1)?.layer;
  return [...byLayer].map(([layer, epochs]) => {
    const last = epochs.at(-1)!;
    const isDone = layer < layersTaken(run, planned.layers) || last.epoch + 1 === planned.epochs;
    return {
      ...last,
      parameters: null,
      seconds: epochs.reduce((sum, one) => sum + one.seconds, 0),
      inTraining: (atOnce || layer === latest) && !isDone,
      epochs: last.epoch + 1,
    };
  });
}

/** Layers that came with their epochs from the run that this one started from. The last layer of a network gets epochs here. */
function layersTaken({ config }: RunRecord, plannedLayers: number | undefined): number {
  const taken = config.startedFrom?.layers ?? 0;
  return taken === plannedLayers ? taken - 1 : taken;
}

function epochsByLayer({ epochs }: RunRecord): Map<number, EpochRecord[]> {
  const byLayer = new Map<number, EpochRecord[]>();
  for (const epoch of epochs) {
    const before = byLayer.get(epoch.layer);
    if (before === undefined) byLayer.set(epoch.layer, [epoch]);
    else before.push(epoch);
  }
  return byLayer;
}

/** What the recipe calls its model or data set: by its title, or its name as the literature writes it. */
function titleOf(recipe: RecordedRecipe, group: 'model' | 'dataset'): string | undefined {
  const title = textAt(recipe, group, 'title') ?? textAt(recipe, group, 'name');
  if (title === undefined) return undefined;
  return group === 'model' ? modelTitle(title) : datasetTitle(title);
}

export function numberAt(recipe: RecordedRecipe, group: string, name: string): number | undefined {
  const value = groupOf(recipe, group)[name];
  return typeof value === 'number' ? value : undefined;
}

/** How many blocks the layers are grouped into, where they are. */
function blockCountAt(recipe: RecordedRecipe): number | undefined {
  const value = groupOf(recipe, 'training').blocks;
  return typeof value === 'number' || Array.isArray(value) ? blockCount(value as Blocks) : undefined;
}

export function textAt(recipe: RecordedRecipe, group: string, name: string): string | undefined {
  const value = groupOf(recipe, group)[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function groupOf(recipe: RecordedRecipe, group: string): { [name: string]: RecordedValue } {
  const value = recipe[group];
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {};
}
