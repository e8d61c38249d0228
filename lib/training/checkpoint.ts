// A checkpoint is state.json and the tensor files it names. state.json is written last and by rename, so it always names
// files that are whole; those it no longer names are removed afterwards. A finished layer's file is written once.
import { existsSync } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { asWriteError, writeWhole } from '../../scripts/support/files.mjs';
import type { Network } from '../models/index.js';
import { loadInto, type Module, readSafetensors, type StateDict, writeSafetensors } from '../nn/index.js';
import type { GradScaler, Sgd } from '../optim/index.js';
import { Generator, type Tensor } from '../tensor/index.js';
import { RunDirectoryError } from './errors.js';
import type { MeterState } from './meter.js';
import { readJson } from './run-directory.js';
import type { Stage } from './stage.js';

/** Where a run stands: the next step to do. */
export interface Position {
  /** Index of the stage. */
  stage: number;
  epoch: number;
  /** Steps of this epoch that are done. */
  step: number;
}

const stateSchema = z.strictObject({
  formatVersion: z.literal(1),
  position: z.strictObject({ stage: z.int().min(0), epoch: z.int().min(0), step: z.int().min(0) }),
  /** The sums of an epoch that was left in its middle. */
  meter: z.strictObject({ lossSum: z.number(), correct: z.number(), images: z.number() }).nullable(),
  scaler: z.strictObject({ scale: z.number(), goodSteps: z.int(), skipped: z.int() }).nullable(),
  isFirstStep: z.boolean(),
  /** Training time of the run so far, and of the layers that are done. */
  seconds: z.number(),
  stageSeconds: z.array(z.number()),
  /** The tensors of each finished stage. */
  finished: z.array(z.string()),
  /** The tensors of the stage in training; null before its first step. */
  current: z.string().nullable(),
});

export type CheckpointState = z.infer<typeof stateSchema>;

/** What a checkpoint is made of while a stage trains. */
export interface TrainingState {
  readonly position: Position;
  readonly meter: MeterState | null;
  readonly seconds: number;
  readonly stageSeconds: readonly number[];
}

const STATE_FILE = 'state.json';

function stageTensors(stage: Stage): StateDict {
  const tensors: StateDict = new Map();
  stage.owned.forEach((module: Module, i) => {
    for (const [name, tensor] of module.stateDict()) tensors.set(`${i}.${name}`, tensor);
  });
  return tensors;
}

const momentumName = (i: number): string => `momentum.${i}`;

export class CheckpointStore {
  #serial = 0;
  #finished: string[] = [];

  readonly #requireHeld: () => void;

  /** `requireHeld` throws where the run is another process's by now; it is asked before anything is written. */
  constructor(
    readonly directory: string,
    requireHeld: () => void = () => {},
  ) {
    this.#requireHeld = requireHeld;
  }

  get exists(): boolean {
    return existsSync(join(this.directory, STATE_FILE));
  }

  /** Throws RunDirectoryError, naming the file, for a state that is none or lies outside the run's stages and epochs. */
  async read(limits: { stages: number; epochs: number }): Promise<CheckpointState> {
    const file = join(this.directory, STATE_FILE);
    const parsed = stateSchema.safeParse(await readJson(file));
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      throw new RunDirectoryError(`${file}: ${issue!.path.join('.')}: ${issue!.message}`);
    }
    const { position, finished, stageSeconds } = parsed.data;
    const isOfThisRun =
      position.stage <= limits.stages &&
      position.epoch < limits.epochs &&
      finished.length === position.stage &&
      stageSeconds.length === position.stage;
    if (!isOfThisRun) throw new RunDirectoryError(`${file}: its position and its layers do not fit the run's recipe`);
    this.#finished = [...finished];
    this.#serial = Number(/(\d+)\.safetensors$/.exec(parsed.data.current ?? '')?.[1] ?? 0);
    return parsed.data;
  }

  /** Loads the finished stages of a checkpoint into the network. */
  async loadFinished(state: CheckpointState, stages: readonly Stage[]): Promise<void> {
    for (const [i, file] of state.finished.entries()) {
      await this.#withTensors(file, (tensors) => loadInto(stageTensors(stages[i]!), tensors));
    }
  }

  /** Loads the stage in training and its optimiser. */
  async loadCurrent(state: CheckpointState, stage: Stage, optimizer: Sgd): Promise<void> {
    if (state.current === null) return;
    await this.#withTensors(state.current, (tensors) => {
      const momentumBuffers: Tensor[] = [];
      for (let i = 0; tensors.has(momentumName(i)); i++) {
        momentumBuffers.push(tensors.get(momentumName(i))!);
        tensors.delete(momentumName(i));
      }
      const generatorState = tensors.get('generator');
      tensors.delete('generator');
      loadInto(stageTensors(stage), tensors);
      // A stage that starts from given weights has not had an optimiser yet.
      if (momentumBuffers.length > 0) optimizer.restore({ momentumBuffers, isFirstStep: state.isFirstStep });
      if (generatorState !== undefined) {
        using generator = Generator.default(optimizer.parameters[0]!.device);
        generator.setState(generatorState);
        generatorState.dispose();
      }
      for (const buffer of momentumBuffers) buffer.dispose();
    });
  }

  async #withTensors(name: string, use: (tensors: StateDict) => void): Promise<void> {
    const file = join(this.directory, name);
    if (!existsSync(file)) throw new RunDirectoryError(`${file}: not found, but ${STATE_FILE} names it`);
    const { tensors } = await readSafetensors(file);
    const all = [...tensors.values()];
    try {
      use(tensors);
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
  async save(stage: Stage, optimizer: Sgd, scaler: GradScaler | null, state: TrainingState): Promise<void> {
    await this.#makeDirectory();
    const { momentumBuffers, isFirstStep } = optimizer.state;
    const current = `training-${++this.#serial}.safetensors`;
    using generator = Generator.default(optimizer.parameters[0]!.device);
    using generatorState = generator.state();
    const tensors: StateDict = new Map([
      ...stageTensors(stage),
      ...momentumBuffers.map((buffer, i) => [momentumName(i), buffer] as const),
      ['generator', generatorState],
    ]);
    await writeSafetensors(join(this.directory, current), tensors);
    await this.#commit({ ...state, scaler: scaler?.state ?? null, isFirstStep, current });
  }

  /** Saves the weights that a stage starts from, where they are not the initial ones of its seed. */
  async saveStart(stage: Stage, state: TrainingState): Promise<void> {
    await this.#makeDirectory();
    const current = `training-${++this.#serial}.safetensors`;
    await writeSafetensors(join(this.directory, current), stageTensors(stage));
    await this.#commit({ ...state, scaler: null, isFirstStep: true, current });
  }

  /** Saves the end of a stage: from here its weights do not change. */
  async saveFinished(stage: Stage, state: TrainingState): Promise<void> {
    await this.#makeDirectory();
    const file = `layer-${String(stage.layer).padStart(2, '0')}.safetensors`;
    await writeSafetensors(join(this.directory, file), stageTensors(stage));
    this.#finished.push(file);
    await this.#commit({ ...state, scaler: null, isFirstStep: true, current: null });
  }

  async #commit(state: TrainingState & Pick<CheckpointState, 'scaler' | 'isFirstStep' | 'current'>): Promise<void> {
    const whole: CheckpointState = {
      formatVersion: 1,
      position: state.position,
      meter: state.meter,
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

  /** Removes the checkpoint of a run that is finished and has its network in files of its own. */
  async remove(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Writes a finished network's files; the heads of its layers too, unless it was trained end to end. */
export async function saveNetwork(
  network: Network,
  files: { model: string; auxiliaryHeads: string | null },
): Promise<void> {
  await writeSafetensors(files.model, network.stateDict(), { format: 'pt' });
  const auxiliary = network.auxiliaryStateDict();
  if (files.auxiliaryHeads !== null && auxiliary.size > 0) {
    await writeSafetensors(files.auxiliaryHeads, auxiliary, { format: 'pt' });
  }
}

/** Loads a finished run's network from its files; a network trained end to end has no auxiliary heads. */
export async function loadNetwork(
  network: Network,
  files: { model: string; auxiliaryHeads: string | null },
): Promise<void> {
  await loadFile(files.model, network.stateDict(), network.name);
  const auxiliary = network.auxiliaryStateDict();
  if (files.auxiliaryHeads !== null && auxiliary.size > 0)
    await loadFile(files.auxiliaryHeads, auxiliary, network.name);
}

async function loadFile(file: string, target: StateDict, name: string): Promise<void> {
  if (!existsSync(file)) throw new RunDirectoryError(`${file}: not found; has the run finished?`);
  const { tensors } = await readSafetensors(file);
  try {
    loadInto(target, tensors);
  } catch (error) {
    throw new RunDirectoryError(`${file}: expected the tensors of the run's ${name}: ${(error as Error).message}`, {
      cause: error,
    });
  } finally {
    for (const tensor of tensors.values()) tensor.dispose();
  }
}
