// This rank of some trainings, one after another, as TRAIN says; prints each step's mean loss, the notes, and how each ended.
import { overrideRecipe, presetRecipe, resume, train } from '../../../dist/index.js';
import { options, print, told } from './rank.mjs';

/**
 * @typedef {object} Asked
 * @property {string} preset
 * @property {object} changes of the recipe
 * @property {string} [out] where it is a new run
 * @property {string} [resume] where it goes on with one
 * @property {number} [abortAfter] steps after which the rank `abortRank` wants to stop
 * @property {number} [abortRank]
 * @property {boolean} [orResume]
 * @property {Record<string, object>} [changesOf] by rank
 * @property {object} [group] more of it
 * @property {string} [network] the file of a module beside this one, whose network is trained
 */

const { rank = 0, worldSize = 1, store } = options;

/** @param {Asked} one @param {number} number */
async function run({ preset, changes, out, abortAfter, abortRank, changesOf = {}, ...asked }, number) {
  const controller = new AbortController();
  let steps = 0;
  /** @param {import('../../../dist/index.js').TrainingEvent} event */
  const onEvent = (event) => {
    if (event.type === 'start') print({ notes: event.notes });
    if (event.type !== 'step') return;
    print({ loss: event.loss });
    if (++steps === abortAfter && (abortRank ?? rank) === rank) controller.abort();
  };
  const own = /** @type {NonNullable<typeof store>} */ ({ ...store, prefix: `run-${number}` });
  const group = worldSize === 1 ? {} : { group: { ...options, store: own, ...asked.group } };
  const module = asked.network === undefined ? {} : { network: new URL(asked.network, import.meta.url) };
  const watched = { ...module, onEvent, signal: controller.signal, checkpointSeconds: 0, ...group };
  try {
    const whole = presetRecipe(preset, { dataset: 'shapes', onCuda: false });
    const recipe = overrideRecipe(whole, changes, changesOf[rank] ?? {});
    const outcome =
      asked.resume === undefined
        ? await train({ recipe, ...(out === undefined ? {} : { out }), orResume: asked.orResume ?? false, ...watched })
        : await resume(asked.resume, watched);
    print({ done: outcome.result.layers });
  } catch (error) {
    const { code, message } = /** @type {Error & { code?: string }} */ (error);
    print({ failed: { ...told(error), code, message } });
  }
}

// One after another: a process that has failed is one for the next run, too.
for (const [number, one] of /** @type {Asked[]} */ (JSON.parse(process.env.TRAIN ?? '[]')).entries()) {
  print({ run: number });
  await run(one, number);
}
