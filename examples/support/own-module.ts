// An example that is a module and a program in one.
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { isMainThread } from 'node:worker_threads';
import * as lw from 'layerwise';

/** Whether the file of this URL is the program that was started, not a module of another. */
export const isProgram = (url: string): boolean => isMainThread && process.argv[1] === fileURLToPath(url);

/**
 * Trains what a module gives, in a worker thread: a new run (--out DIR), or one that was interrupted (--resume DIR). Ctrl-C stops
 * with a checkpoint. Throws where the last layer knows fewer of the test images than `leastTop1` per cent.
 */
export async function trainModule(url: string, recipe: lw.Recipe, { leastTop1 }: { leastTop1: number }): Promise<void> {
  const { out, resume } = parseArgs({ options: { out: { type: 'string' }, resume: { type: 'string' } } }).values;
  const own = { network: recipe.model.name === 'own', data: recipe.dataset.name === 'own' };
  const modules = {
    ...(own.network ? { network: new URL(url) } : {}),
    ...(own.data ? { data: new URL(url) } : {}),
  };
  const job =
    resume === undefined
      ? lw.TrainingJob.train({ recipe, ...modules, ...(out === undefined ? {} : { out }) })
      : lw.TrainingJob.resume({ runDirectory: resume, ...modules });
  let isStopped = false;
  process.once('SIGINT', () => {
    isStopped = true;
    void job.cancel();
  });
  job.on('event', (event) => {
    if (event.type !== 'layer') return;
    const [own, ensemble] = [event.testTop1, event.ensembleTop1].map((top1) => top1?.toFixed(1));
    console.log(`layer ${event.layer + 1}: ${own} % of the test images, ensemble ${ensemble} %`);
  });
  const outcome = await job.outcome.catch((error: unknown) => {
    if (!(error instanceof lw.TrainingJobError)) throw error;
    console.error(error.message);
    return null;
  });
  if (outcome === null) {
    process.exitCode = isStopped ? 130 : 1;
    return;
  }
  const { report, result } = outcome;
  console.log(`report: ${report}`);
  const last = result.layers.at(-1)!.testTop1 ?? 0;
  if (last < leastTop1)
    throw new Error(`expected ${leastTop1} % of the test images at least, got ${last.toFixed(1)} %`);
}
