// A checkpoint is state.json and the tensor files it names. state.json is written last and by rename, so it always names
// files that are whole; those it no longer names are removed afterwards. A finished layer's file is written once.
import { existsSync } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { asWriteError, writeWhole } from '#scripts/support/files.mjs';
import type { Stage } from '../models/index.js';
import { loadInto, type Module, readSafetensors, type StateDict, writeSafetensors } from '../nn/index.js';
import type { GradScaler, Optimizer } from '../optim/index.js';
import type { Precision } from '../recipe/index.js';
import { describeIssue, isAtLeastSum, shown } from '../schema.js';
import type { Generator, Tensor } from '../tensor/index.js';
import { RunDirectoryError } from './errors.js';
import { readJson } from './run-directory.js';
import { describeUnfitValues } from './weight-values.js';

/** Where a run stands: the next step to do. */
export interface Position {
  /** Index of the stage. */
  stage: number;
  epoch: number;
  /** Steps of this epoch that are done. */
  step: number;
}

const index = z.int().min(0);
const seconds = z.number().min(0);

const meterSchema = z.strictObject({ lossSum: z.number().min(0), correct: index, images: z.int().min(1) });

const stateSchema = z.strictObject({
  formatVersion: z.literal(1, 'expected 1, the format of this version of layerwise'),
  position: z.strictObject({ stage: index, epoch: index, step: index }),
  /** The sums of an epoch that was left in its middle; a list where several problems are solved at once. */
  meter: z.union([meterSchema, z.array(meterSchema)]).nullable(),
  scaler: z
    .strictObject({
      scale: z
        .number()
        .positive()
        .refine((scale) => Number.isInteger(Math.log2(scale)), 'expected a power of 2'),
      goodSteps: index,
      skipped: index,
    })
    .nullable(),
  isFirstStep: z.boolean(),
  /** Training time of the run so far, and of the layers that are done. */
  seconds,
  stageSeconds: z.array(seconds),
  /** The tensors of each finished stage. */
  finished: z.array(z.string()),
  /** The tensors of the stage in training; null before its first step. */
  current: z
    .string()
    .regex(/^training-\d{1,15}\.safetensors$/, 'expected training-N.safetensors')
    .nullable(),
});

/** The sums of an epoch, as a checkpoint keeps them. */
export interface MeterState {
  lossSum: number;
  correct: number;
  images: number;
}

export type CheckpointState = z.infer<typeof stateSchema>;

/** What a checkpoint is made of while a stage trains. */
export interface TrainingState {
  readonly position: Position;
  /** Of each problem of the stage. */
  readonly meters: readonly MeterState[] | null;
  readonly seconds: number;
  readonly stageSeconds: readonly number[];
}

/** The facts of a run that limit its checkpoints. */
export interface CheckpointLimits {
  readonly stages: readonly Stage[];
  readonly epochs: number;
  readonly batchSize: number;
  readonly trainCount: number;
  readonly precision: Precision;
}

/** The sums in a checkpoint, of each problem of the stage; null between epochs. */
export const metersOf = ({ meter }: CheckpointState): readonly MeterState[] | null =>
  meter === null || Array.isArray(meter) ? meter : [meter];

const LARGEST_FLOAT32 = (2 - 2 ** -23) * 2 ** 127;

type Rule = [isRight: boolean, name: string, expected: string, got: unknown];

/** The first of a state's values that is in range by itself, and does not fit the run or another one; null where all fit. */
function misfitOf(
  state: CheckpointState,
  { stages, epochs, batchSize, trainCount, precision }: CheckpointLimits,
): string | null {
  const { position, scaler, isFirstStep, current, finished, stageSeconds } = state;
  const meters = metersOf(state);
  const problems = stages[position.stage]?.local?.length ?? 1;
  const { stage, epoch, step } = position;
  const stepsPerEpoch = Math.ceil(trainCount / batchSize);
  const steps = epoch * stepsPerEpoch + step;
  const isAtStart = steps === 0;
  const images = Math.min(step * batchSize, trainCount);
  // fp16 leaves steps out, also all of them.
  const hasNoStep = precision === 'fp16' && scaler !== null && scaler.skipped > 0 && isFirstStep;
  const lastStage = current === null ? stages.length : stages.length - 1;
  const files = stages.slice(0, stage).map(finishedFile);
  const rules: readonly Rule[] = [
    [stage <= lastStage, 'position.stage', `0 to ${lastStage}`, stage],
    [epoch < epochs, 'position.epoch', `0 to ${epochs - 1}`, epoch],
    [step <= stepsPerEpoch, 'position.step', `0 to ${stepsPerEpoch}, the steps of an epoch`, step],
    [current !== null || isAtStart, 'current', 'a file of tensors, after the first step', current],
    [finished.join() === files.join(), 'finished', `[${files.join(', ')}], one file a finished layer`, finished],
    [stageSeconds.length === stage, 'stageSeconds', `${stage}, one a finished layer`, stageSeconds],
    [isAtLeastSum(state.seconds, stageSeconds), 'seconds', 'at least the sum of stageSeconds', state.seconds],
    [
      (meters !== null) === step > 0,
      'meter',
      step > 0 ? 'the sums of the epoch so far' : 'null before a first step',
      state.meter,
    ],
    [meters === null || meters.length === problems, 'meter', `the sums of ${problems} problems`, state.meter],
    ...(meters ?? []).flatMap((meter, i): Rule[] => {
      const name = meters!.length === 1 ? 'meter' : `meter[${i}]`;
      return [
        [meter.images === images, `${name}.images`, `${images}, those of ${step} steps`, meter.images],
        [meter.correct <= images, `${name}.correct`, `0 to ${images}`, meter.correct],
        [
          meter.lossSum <= images * LARGEST_FLOAT32,
          `${name}.lossSum`,
          `a sum of ${images} finite losses`,
          meter.lossSum,
        ],
      ];
    }),
    [
      (scaler !== null) === (precision === 'fp16' && !isAtStart),
      'scaler',
      precision === 'fp16' && !isAtStart ? 'a scale, as with fp16' : 'null, as with every precision but fp16',
      scaler,
    ],
    [scaler === null || scaler.goodSteps <= steps, 'scaler.goodSteps', `0 to ${steps}`, scaler?.goodSteps],
    [scaler === null || scaler.skipped <= steps, 'scaler.skipped', `0 to ${steps}`, scaler?.skipped],
    [isFirstStep === isAtStart || hasNoStep, 'isFirstStep', `${isAtStart} after ${steps} steps`, isFirstStep],
  ];
  const broken = rules.find(([isRight]) => !isRight);
  return broken === undefined ? null : `${broken[1]}: expected ${broken[2]}, got ${shown(broken[3])}`;
}

const STATE_FILE = 'state.json';

/** The state of the generator that dropout draws from, among the tensors of a file. */
const GENERATOR = 'generator';

const finishedFile = ({ layer }: Stage): string => `layer-${String(layer).padStart(2, '0')}.safetensors`;

function stageTensors(stage: Stage): StateDict {
  const tensors: StateDict = new Map();
  stage.owned.forEach((module: Module, i) => {
    for (const [name, tensor] of module.stateDict()) tensors.set(`${i}.${name}`, tensor);
  });
  return tensors;
}

/** `loadInto` for saved tensors, which must have the same dtypes and shapes, and values that weights can have. */
function load(target: StateDict, source: StateDict): void {
  for (const [name, own] of target) {
    const tensor = source.get(name);
    if (tensor !== undefined) requireLike(name, tensor, own);
  }
  loadInto(target, source);
}

function requireLike(name: string, tensor: Tensor, own: Tensor): void {
  const type = ({ dtype, shape }: Tensor): string => `${dtype} [${shape.join(', ')}]`;
  if (type(tensor) !== type(own)) throw new RunDirectoryError(`${name}: expected ${type(own)}, got ${type(tensor)}`);
  const unfit = describeUnfitValues(new Map([[name, tensor]]));
  if (unfit !== null) throw new RunDirectoryError(unfit);
}

const isStart = ({ epoch, step }: Position): boolean => epoch === 0 && step === 0;

/** A position as a file of tensors has it. */
const nameOf = ({ stage, epoch, step }: Position): string => `stage ${stage}, epoch ${epoch}, step ${step}`;

/** The tensors are those of the state that names them; files of older versions do not say. */
function requirePosition(position: string | undefined, state: CheckpointState): void {
  const expected = nameOf(state.position);
  if (position === undefined || position === expected) return;
  throw new RunDirectoryError(`expected the tensors of ${expected}, got those of ${position}`);
}

/**
 * Takes the optimiser's tensors out of those of a file. After a step all of them must be there. Before the first there may be
 * none: a stage that starts from given weights has had no optimiser yet.
 */
function takeOptimizer(tensors: StateDict, optimizer: Optimizer, { position }: CheckpointState): StateDict {
  const own = optimizer.state.tensors;
  const taken: StateDict = new Map();
  for (const name of own.keys()) {
    const tensor = tensors.get(name);
    if (tensor !== undefined) taken.set(name, tensor);
    tensors.delete(name);
  }
  if (isStart(position) && taken.size === 0) return taken;
  const missing = [...own.keys()].filter((name) => !taken.has(name));
  if (missing.length > 0) {
    throw new RunDirectoryError(`expected ${own.size} tensors of the optimiser, got none for ${missing.join(', ')}`);
  }
  for (const [name, tensor] of taken) requireLike(name, tensor, own.get(name)!);
  return taken;
}

export class CheckpointStore {
  #serial = 0;
  #finished: string[] = [];

  readonly #requireHeld: () => void;

  /** `requireHeld` is called before each write. It throws where another process has taken over the run. */
  constructor(
    readonly directory: string,
    requireHeld: () => void = () => {},
  ) {
    this.#requireHeld = requireHeld;
  }

  get exists(): boolean {
    return existsSync(join(this.directory, STATE_FILE));
  }

  /**
   * Throws RunDirectoryError where the run's checkpoint was lost: there is none, but more epochs are recorded than come before
   * the first checkpoint, or there are tensors of a later one. `stages` are those of the first checkpoint.
   */
  async requireNoneLost(
    stages: readonly Stage[],
    { epochs, mostEpochs }: { epochs: number; mostEpochs: number },
  ): Promise<void> {
    if (this.exists) return;
    const first = ['training-1.safetensors', ...stages.map(finishedFile)];
    const entries = existsSync(this.directory) ? await readdir(this.directory) : [];
    const orphan = entries.find((entry) => entry.endsWith('.safetensors') && !first.includes(entry));
    if (orphan === undefined && epochs <= mostEpochs) return;
    const evidence = orphan === undefined ? `metrics.jsonl has epochs of this run: ${epochs}` : `${orphan} is there`;
    throw new RunDirectoryError(
      `${join(this.directory, STATE_FILE)}: not found, but ${evidence}: the checkpoint was lost; bring it back from ` +
        'a copy, or begin anew in another directory',
    );
  }

  /** Throws RunDirectoryError with file and field for a state that is none, that the run cannot have, or that contradicts itself. */
  async read(limits: CheckpointLimits): Promise<CheckpointState> {
    const file = join(this.directory, STATE_FILE);
    const value = await readJson(file);
    const parsed = stateSchema.safeParse(value);
    if (!parsed.success) throw new RunDirectoryError(`${file}: ${describeIssue(parsed.error.issues[0]!, value)}`);
    const misfit = misfitOf(parsed.data, limits);
    if (misfit !== null) throw new RunDirectoryError(`${file}: ${misfit}`);
    this.#finished = [...parsed.data.finished];
    this.#serial = Number(/\d+/.exec(parsed.data.current ?? '')?.[0] ?? 0);
    return parsed.data;
  }

  /** Loads the finished stages of a checkpoint into the network, and the generator as the last of them left it. */
  async loadFinished(state: CheckpointState, stages: readonly Stage[], generator: Generator): Promise<void> {
    for (const [i, file] of state.finished.entries()) {
      await this.#withTensors(file, (tensors) => {
        // Files of older versions, and of layers that were taken from another run, have none.
        const generatorState = tensors.get(GENERATOR);
        tensors.delete(GENERATOR);
        load(stageTensors(stages[i]!), tensors);
        if (generatorState !== undefined) generator.setState(generatorState);
      });
    }
  }

  /** Loads the stage in training, its optimiser, and the generator that dropout draws from. */
  async loadCurrent(state: CheckpointState, stage: Stage, optimizer: Optimizer, generator: Generator): Promise<void> {
    if (state.current === null) return;
    await this.#withTensors(state.current, (tensors, { position }) => {
      requirePosition(position, state);
      const optimizerTensors = takeOptimizer(tensors, optimizer, state);
      const generatorState = tensors.get(GENERATOR);
      tensors.delete(GENERATOR);
      load(stageTensors(stage), tensors);
      if (!isStart(state.position)) optimizer.restore({ tensors: optimizerTensors, isFirstStep: state.isFirstStep });
      if (generatorState !== undefined) generator.setState(generatorState);
    });
  }

  async #withTensors(
    name: string,
    use: (tensors: StateDict, metadata: Readonly<Record<string, string>>) => void,
  ): Promise<void> {
    const file = join(this.directory, name);
    if (!existsSync(file)) throw new RunDirectoryError(`${file}: not found, but ${STATE_FILE} names it`);
    const { tensors, metadata } = await readSafetensors(file);
    const all = [...tensors.values()];
    try {
      use(tensors, metadata);
    } catch (error) {
      throw new RunDirectoryError(`${file}: ${(error as Error).message}`, { cause: error });
    } finally {
      for (const tensor of all) tensor.dispose();
    }
  }

  /** Not recursive: a run directory that was removed while the run went on is not made again. */
  async #makeDirectory(): Promise<void> {
    this.#requireHeld();
    if (existsSync(this.directory)) return;
    await mkdir(this.directory).catch((error: unknown) => {
      throw asWriteError(this.directory, error, 'made');
    });
  }

  /** Saves a stage in training: its weights, its optimiser, and the generator that dropout draws from. */
  async save(
    stage: Stage,
    training: { optimizer: Optimizer; scaler: GradScaler | null; generator: Generator },
    state: TrainingState,
  ): Promise<void> {
    const { optimizer, scaler, generator } = training;
    await this.#makeDirectory();
    const { tensors: optimizerTensors, isFirstStep } = optimizer.state;
    const current = `training-${++this.#serial}.safetensors`;
    using generatorState = generator.state();
    const tensors: StateDict = new Map([...stageTensors(stage), ...optimizerTensors, [GENERATOR, generatorState]]);
    await writeSafetensors(join(this.directory, current), tensors, { position: nameOf(state.position) });
    await this.#commit({ ...state, scaler: scaler?.state ?? null, isFirstStep, current });
  }

  /** Saves the end of a stage: from here its weights do not change. The next one draws on from the generator. */
  async saveFinished(stage: Stage, generator: Generator, state: TrainingState): Promise<void> {
    await this.#makeDirectory();
    using generatorState = generator.state();
    await this.#writeFinished(stage, [[GENERATOR, generatorState]]);
    await this.#commit({ ...state, scaler: null, isFirstStep: true, current: null });
  }

  async #writeFinished(stage: Stage, more: readonly (readonly [string, Tensor])[] = []): Promise<void> {
    const file = finishedFile(stage);
    await writeSafetensors(join(this.directory, file), new Map([...stageTensors(stage), ...more]));
    this.#finished.push(file);
  }

  /**
   * Saves finished stages that were taken from elsewhere, and the weights that the next one starts from, where they are not the
   * initial ones of its seed: all of them, or there is no checkpoint.
   */
  async saveTaken(finished: readonly Stage[], start: Stage | null, state: TrainingState): Promise<void> {
    await this.#makeDirectory();
    this.#finished = [];
    for (const stage of finished) await this.#writeFinished(stage);
    const current = start === null ? null : `training-${++this.#serial}.safetensors`;
    if (start !== null) {
      await writeSafetensors(join(this.directory, current!), stageTensors(start), { position: nameOf(state.position) });
    }
    await this.#commit({ ...state, scaler: null, isFirstStep: true, current });
  }

  async #commit(state: TrainingState & Pick<CheckpointState, 'scaler' | 'isFirstStep' | 'current'>): Promise<void> {
    const whole: CheckpointState = {
      formatVersion: 1,
      position: state.position,
      meter: state.meters === null ? null : state.meters.length === 1 ? { ...state.meters[0]! } : [...state.meters],
      scaler: state.scaler,
      isFirstStep: state.isFirstStep,
      seconds: state.seconds,
      stageSeconds: [...state.stageSeconds],
      finished: this.#finished,
      current: state.current,
    };
    // Writing the tensors took a while.
    this.#requireHeld();
    await writeWhole(join(this.directory, STATE_FILE), `${JSON.stringify(whole, null, 2)}\n`);
    const named = new Set([STATE_FILE, state.current, ...this.#finished]);
    for (const entry of await readdir(this.directory)) {
      if (!named.has(entry)) await rm(join(this.directory, entry), { force: true });
    }
  }
}
