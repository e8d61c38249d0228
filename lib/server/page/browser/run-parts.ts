import type { Run } from './api.js';
import { element } from './elements.js';

/** The state of a run, as a word with a mark. */
export const stateMark = (state: string): Element => element('span', { class: `state ${state}` }, state);

/** How far a run is. */
export function progressBar({ id, progress, state }: Pick<Run, 'id' | 'progress' | 'state'>): Element {
  if (state === 'finished') return element('progress', { max: 1, value: 1, 'aria-label': `progress of ${id}` });
  const { stepsDone = 0, stepsTotal = 1 } = progress ?? {};
  return element('progress', { max: stepsTotal, value: stepsDone, 'aria-label': `progress of ${id}` });
}
