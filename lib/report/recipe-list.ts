import type { RecordedRecipe, RecordedValue } from '../run/index.js';
import { formatNumber, nameInWords } from './format.js';
import { type Markup, markup } from './markup.js';

/** A recipe of any shape as groups of names and values: a new key appears by itself. */
export function renderRecipe(recipe: RecordedRecipe): Markup {
  const entries = Object.entries(recipe).filter((entry): entry is [string, RecordedValue] => entry[1] !== undefined);
  const single = entries.filter(([, value]) => !isNested(value));
  const groups = entries.filter(([, value]) => isNested(value));
  return markup`<div class="groups">
${single.length > 0 && markup`<section class="group"><h3>general</h3>${pairs(single)}</section>`}
${groups.map(([name, value]) => markup`<section class="group"><h3>${nameInWords(name)}</h3>${renderValue(value)}</section>\n`)}
</div>`;
}

/** A list of names and values. */
export function pairs(entries: readonly (readonly [string, RecordedValue])[]): Markup {
  return markup`<dl>${entries.map(
    ([name, value]) =>
      markup`<div${isNested(value) && markup` class="nested"`}><dt>${nameInWords(name)}</dt><dd>${renderValue(value)}</dd></div>`,
  )}</dl>`;
}

function renderValue(value: RecordedValue): Markup {
  if (Array.isArray(value)) return renderList(value);
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value);
    return entries.length === 0 ? markup`none` : pairs(entries);
  }
  if (value === null || value === '') return markup`none`;
  if (typeof value === 'boolean') return markup`${value ? 'yes' : 'no'}`;
  if (typeof value === 'number')
    return markup`${Number.isInteger(value) && value >= 10_000 ? formatNumber(value) : value}`;
  return markup`${value}`;
}

const shownAtOnce = 12;

function renderList(values: readonly RecordedValue[]): Markup {
  if (values.length === 0) return markup`none`;
  if (values.some(isNested)) return markup`<ol>${values.map((value) => markup`<li>${renderItem(value)}</li>`)}</ol>`;
  const text = values.map((value, position) => markup`${position > 0 && ', '}${renderValue(value)}`);
  if (values.length <= shownAtOnce) return markup`${text}`;
  return markup`<details><summary>${formatNumber(values.length)} values</summary>${text}</details>`;
}

/** A transform on one line, as `random crop: padding 4, size 32`. */
function renderItem(value: RecordedValue): Markup {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return renderValue(value);
  const { name, kind, type, ...rest } = value;
  const label = [name, kind, type].find((one) => typeof one === 'string');
  if (label === undefined || Object.values(rest).some(isRecord)) return renderValue(value);
  const settings = Object.entries(rest).map(
    ([key, setting], position) => markup`${position > 0 && ', '}${nameInWords(key)} ${renderValue(setting)}`,
  );
  return markup`${nameInWords(label as string)}${settings.length > 0 && ': '}${settings}`;
}

/** Whether a value needs the full width under its name. */
function isNested(value: RecordedValue): boolean {
  return isRecord(value) || (Array.isArray(value) && value.some((one) => isRecord(one) || Array.isArray(one)));
}

function isRecord(value: RecordedValue): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
