import { post, type Run } from './api.js';
import { element, fill } from './elements.js';

/** What the service offers, as the page's own data says. */
const { presets, datasets } = JSON.parse(document.querySelector('#choices')!.textContent!) as {
  readonly presets: readonly string[];
  readonly datasets: readonly string[];
};

/** A form to start a training. */
export async function showStart(main: Element): Promise<void> {
  const problem = element('p', { role: 'alert', class: 'problem' });
  const form = element(
    'form',
    {
      submit: (event) => {
        event.preventDefault();
        void start(new FormData(form), problem);
      },
    },
    choice('Preset', 'preset', presets),
    choice('Data set', 'dataset', datasets),
    field('Folder of the data', 'dataDir', { placeholder: 'within the server’s folder; shapes needs none' }),
    number('Width', 'width', { min: 1, placeholder: 'the preset’s' }),
    number('Epochs a layer', 'epochs', { min: 1, placeholder: 'the preset’s' }),
    number('Learning rate', 'learningRate', { min: 0, step: 'any', placeholder: 'the preset’s' }),
    number('Training images', 'trainLimit', { min: 1, placeholder: 'all' }),
    number('Test images', 'testLimit', { min: 1, placeholder: 'all' }),
    number('Seed', 'seed', { min: 0, placeholder: 'the preset’s' }),
    field('Name', 'id', { pattern: '[A-Za-z0-9][A-Za-z0-9._\\-]{0,99}', placeholder: 'of the preset and the time' }),
    problem,
    element('button', {}, 'Train'),
  );
  fill(
    main,
    element('p', { class: 'kicker' }, element('a', { href: '#/' }, 'All runs')),
    element('h1', {}, 'Train a network'),
    form,
  );
  form.querySelector('select')!.focus();
}

async function start(data: FormData, problem: Element): Promise<void> {
  const text = (name: string): string | undefined => String(data.get(name) ?? '').trim() || undefined;
  const value = (name: string): number | undefined => (text(name) === undefined ? undefined : Number(text(name)));
  const recipe = present({
    seed: value('seed'),
    model: present({ width: value('width') }),
    dataset: present({ dataDir: text('dataDir'), trainLimit: value('trainLimit'), testLimit: value('testLimit') }),
    training: present({ epochs: value('epochs'), learningRate: value('learningRate') }),
  });
  try {
    const body = present({ id: text('id'), preset: text('preset'), dataset: text('dataset'), recipe });
    const { id } = await post<Run>('runs', body);
    location.hash = `#/runs/${id}`;
  } catch (error) {
    fill(problem, error instanceof Error ? error.message : String(error));
  }
}

/** Without members that are undefined; undefined where none is left. */
function present(members: Record<string, unknown>): Record<string, unknown> | undefined {
  const given = Object.entries(members).filter(([, value]) => value !== undefined);
  return given.length === 0 ? undefined : Object.fromEntries(given);
}

const field = (label: string, name: string, properties: Record<string, string | number> = {}): Element =>
  element('label', {}, label, element('input', { name, autocomplete: 'off', ...properties }));

const number = (label: string, name: string, properties: Record<string, string | number>): Element =>
  field(label, name, { type: 'number', ...properties });

const choice = (label: string, name: string, values: readonly string[]): Element =>
  element('label', {}, label, element('select', { name }, ...values.map((value) => element('option', {}, value))));
