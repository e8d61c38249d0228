import { chart, get, type Run } from './api.js';
import { element, fill, percent, refill } from './elements.js';
import { follow } from './follow.js';
import { atMostEvery } from './pace.js';
import { progressBar, stateMark } from './run-parts.js';

/** Runs that are compared, at most: what the chart can tell apart. */
const MOST_COMPARED = 6;

/** However fast events come, and also where they never pause. The service answers so many requests a minute, of all pages here. */
const PACE_MS = 1_000;

/** The list of all runs, and a chart of those that are chosen. */
export async function showRuns(main: Element, signal: AbortSignal): Promise<void> {
  const chosen = new Set<string>();
  const list = element('div', { class: 'runs' });
  const comparison = element('section', { 'aria-live': 'polite' });
  const show = atMostEvery(PACE_MS, async () => {
    if (signal.aborted) return;
    const runs = await get<Run[]>('runs');
    if (!signal.aborted) refill(list, runs.length === 0 ? empty() : table(runs, chosen, compare));
  });
  const compare = async (): Promise<void> => {
    const asked = [...chosen].join(',');
    const shown = asked === '' ? [] : await comparisonOf(asked, Math.round(Math.min(920, main.clientWidth)));
    // Another one may have been asked for since.
    if (asked === [...chosen].join(',')) fill(comparison, ...shown);
  };
  await show();
  fill(
    main,
    element('p', { class: 'kicker' }, 'layerwise'),
    element('h1', {}, 'Runs'),
    element('p', { class: 'actions' }, element('a', { class: 'button', href: '#/start' }, 'Train a network')),
    list,
    comparison,
  );
  void follow('events', () => void show().catch(console.warn), signal);
}

/** A chart of runs, or why there is none. */
async function comparisonOf(runs: string, width: number): Promise<Element[]> {
  try {
    const drawn = await chart(`compare?runs=${runs}&width=${width}`);
    return [element('h2', {}, 'Side by side'), drawn];
  } catch (error) {
    return [element('p', { role: 'alert', class: 'problem' }, error instanceof Error ? error.message : String(error))];
  }
}

const empty = (): Element => element('p', { class: 'deck' }, 'Nothing has been trained here yet.');

function table(runs: readonly Run[], chosen: Set<string>, onChoice: () => Promise<void>): Element {
  const head = ['Run', 'State', 'Progress', 'Top-1', 'Ensemble', 'Compare'].map((name) =>
    element('th', { scope: 'col' }, name),
  );
  const rows = runs.map((run) => {
    const change = (event: Event): void => {
      const { checked } = event.target as HTMLInputElement;
      if (checked && chosen.size < MOST_COMPARED) chosen.add(run.id);
      else chosen.delete(run.id);
      (event.target as HTMLInputElement).checked = chosen.has(run.id);
      void onChoice();
    };
    const box = element('input', {
      type: 'checkbox',
      'aria-label': `compare ${run.id}`,
      checked: chosen.has(run.id),
      change,
    });
    return element(
      'tr',
      {},
      element('th', { scope: 'row' }, element('a', { href: `#/runs/${run.id}` }, run.id), subtitle(run)),
      element('td', {}, stateMark(run.state)),
      element('td', { class: 'bar' }, progressBar(run)),
      element('td', {}, percent(run.testTop1)),
      element('td', {}, percent(run.ensembleTop1)),
      element('td', {}, box),
    );
  });
  const body = element('tbody', {}, ...rows);
  return element(
    'div',
    { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': 'all runs' },
    element('table', {}, element('thead', {}, element('tr', {}, ...head)), body),
  );
}

const subtitle = ({ model, dataset }: Run): Element => element('span', { class: 'subtitle' }, `${model}, ${dataset}`);
