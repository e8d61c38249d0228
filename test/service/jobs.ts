// Jobs for tests, of the built library: a worker is started from the built file.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect } from 'vitest';
import type { TrainingJob as Job } from '../../lib/service/index.js';
import type { TrainingEvent } from '../../lib/training/index.js';
import { smallRecipe } from '../training/runs.js';

/** The address of the built library, for programs of tests, too. */
export const SERVICE = pathToFileURL(join(import.meta.dirname, '..', '..', 'dist', 'service', 'index.js')).href;

export const service = (await import(SERVICE)) as typeof import('../../lib/service/index.js');

/** Goes on until it is stopped. */
export const endless = smallRecipe({ training: { epochs: 100_000 } });

export async function whenEvent(job: Job, test: (event: TrainingEvent) => boolean): Promise<void> {
  for await (const event of job) if (test(event)) return;
  expect.fail('it ended first');
}

export const whenStepping = (job: Job): Promise<void> => whenEvent(job, ({ type }) => type === 'step');
