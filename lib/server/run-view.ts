// What clients are told of a run.
import type { Recipe } from '../recipe/index.js';
import { summariseRun, textAt } from '../report/index.js';
import type { RecordedRecipe, RunRecord } from '../run/index.js';
import type { RunDetail, RunFailure, RunState, RunSummary } from './schemas.js';

/** What is known of a run beside its record on disk. */
export interface LiveFacts {
  readonly state: RunState;
  readonly recipe?: Recipe | null;
  readonly progress?: RunSummary['progress'];
  readonly error?: RunFailure | null;
}

/** What a list tells of the record of a run. */
export interface RunOutline
  extends Pick<RunSummary, 'preset' | 'model' | 'dataset' | 'startedAt' | 'layersDone' | 'testTop1' | 'ensembleTop1'> {
  readonly startedAt: string;
  readonly isFinished: boolean;
}

export function outlineOf(record: RunRecord): RunOutline {
  const { config, epochs, result } = record;
  const last = epochs.at(-1);
  return {
    preset: config.preset,
    ...namesIn(config.recipe),
    startedAt: config.startedAt,
    layersDone: summariseRun(record).layers.filter(({ inTraining }) => !inTraining).length,
    testTop1: last?.testTop1 ?? null,
    ensembleTop1: last?.ensembleTop1 ?? null,
    isFinished: result !== undefined,
  };
}

/** `outline` is null for a run that has not begun. */
export function summaryOf(id: string, live: LiveFacts, outline: RunOutline | null): RunSummary {
  const { isFinished: _, ...told } = outline ?? notBegun(live.recipe ?? null);
  return { id, state: live.state, ...told, progress: live.progress ?? null, error: live.error ?? null };
}

/** As `summaryOf`. */
export function detailOf(id: string, live: LiveFacts, record: RunRecord | null): RunDetail {
  return {
    ...summaryOf(id, live, record === null ? null : outlineOf(record)),
    classes: record?.config.classes ?? [],
    device: record?.config.device ?? null,
    precision: record?.config.precision ?? null,
    recipe: withoutPaths(record?.config.recipe ?? recorded(live.recipe ?? null)),
    epochs: record?.epochs ?? [],
    result: record?.result ?? null,
  };
}

const notBegun = (recipe: Recipe | null): Omit<RunOutline, 'startedAt'> & { startedAt: null } => ({
  preset: recipe?.preset ?? '',
  ...namesIn(recorded(recipe)),
  ...{ startedAt: null, layersDone: 0, testTop1: null, ensembleTop1: null, isFinished: false },
});

const namesIn = (recipe: RecordedRecipe): Pick<RunSummary, 'model' | 'dataset'> => ({
  model: textAt(recipe, 'model', 'name') ?? '',
  dataset: textAt(recipe, 'dataset', 'name') ?? '',
});

const recorded = (recipe: Recipe | null): RecordedRecipe => (recipe as RecordedRecipe | null) ?? {};

/** Where the data lies is the machine's own. */
function withoutPaths(recipe: RecordedRecipe): Record<string, unknown> {
  const { dataset } = recipe;
  if (typeof dataset !== 'object' || dataset === null || Array.isArray(dataset)) return { ...recipe };
  const { dataDir: _, ...others } = dataset;
  return { ...recipe, dataset: others };
}
