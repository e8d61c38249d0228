// Flags that name modules of the user's own.
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Command } from 'commander';
import type { TrainedRun } from '../finished/index.js';
import { shownLines } from '../format.js';
import { recordedModules } from '../run/index.js';

export interface CodeFlags {
  /** Paths of modules. */
  readonly network?: string;
  readonly data?: string;
  readonly trustModule?: boolean;
}

const NETWORK = 'module that exports a function network: a network of your own';
const DATA = 'module that exports a function data: images of your own';

/** Of the commands that take a recipe. */
export function addCodeFlags(command: Command): Command {
  return command.option('--network <file>', NETWORK).option('--data <file>', DATA);
}

/** Of the commands that open a run; with `data` where they read its images. */
export function addCodeFlagsOfRun(command: Command, { data }: { data: boolean }): Command {
  command.option('--network <file>', `${NETWORK}, of a run that has one`);
  if (data) command.option('--data <file>', `${DATA}, of a run that has them`);
  return command.option('--trust-module', 'run the modules that the run names itself');
}

/**
 * The modules that the flags name. With --trust-module, those of the run stand in for flags that are not given; the data module
 * only where the command reads data.
 */
export async function codeOf(
  { network, data, trustModule = false }: CodeFlags,
  { runDirectory, readsData = true }: { readonly runDirectory?: string; readonly readsData?: boolean } = {},
): Promise<{ network?: URL; data?: URL }> {
  const trusted = trustModule && runDirectory !== undefined ? await recordedModules(runDirectory) : {};
  return {
    ...(trusted.network === undefined ? {} : { network: trusted.network }),
    ...(trusted.data === undefined || !readsData ? {} : { data: trusted.data }),
    ...(network === undefined ? {} : { network: urlOf(network) }),
    ...(data === undefined ? {} : { data: urlOf(data) }),
  };
}

/** On standard error. */
export function tellNotes({ notes }: TrainedRun): void {
  for (const note of notes) process.stderr.write(`Note: ${shownLines(note)}\n`);
}

const urlOf = (file: string): URL => pathToFileURL(resolve(file));
