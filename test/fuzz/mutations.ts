// Damage to what the text of a file says, as editors and hands do it.
import type { Choices } from './choices.js';

const VALUES: readonly unknown[] = [
  ...[null, true, false, 0, -0, -1, 1, 2, 0.5, 3, 7, 64, 999, 1e9, 1e308, -1e308, 5e-324, 2 ** 53, 2 ** 31],
  ...['', 'x', '__proto__', '../../x', '\0', 'fp16', 'cuda:0', 'cifar10', [], [1], [[]], {}, { a: 1 }],
];

type Container = Record<string, unknown> | unknown[];

const isContainer = (value: unknown): value is Container => typeof value === 'object' && value !== null;

function containersOf(value: unknown): Container[] {
  if (!isContainer(value)) return [];
  return [value, ...Object.values(value).flatMap(containersOf)];
}

/** Damage to one value of JSON: another value, none, one too many, or two exchanged. */
export function mutateJson(text: string, choices: Choices): string {
  const root = JSON.parse(text) as Container;
  const container = choices.of(containersOf(root).filter((one) => Object.keys(one).length > 0));
  const values = container as Record<string, unknown>;
  const [key, other] = [choices.of(Object.keys(values)), choices.of(Object.keys(values))];
  const changes: (() => void)[] = [
    () => {
      values[key] = choices.of(VALUES);
    },
    () => {
      if (Array.isArray(container)) container.splice(Number(key), 1);
      else delete values[key];
    },
    () => {
      if (Array.isArray(container)) container.push(values[key]);
      else values[choices.of(['extra', 'data', 'startedFrom', 'notes'])] = choices.of(VALUES);
    },
    () => {
      [values[key], values[other]] = [values[other], values[key]];
    },
    () => {
      const value = values[key];
      values[key] =
        typeof value === 'number' ? choices.of([value + 1, value - 1, -value, value / 2, value * 1e6]) : [value];
    },
  ];
  choices.of(changes)();
  return JSON.stringify(root, null, 2);
}

/** Damage to one line, or to the order of the lines. */
export function mutateLines(text: string, choices: Choices): string {
  const lines = text.trimEnd().split('\n');
  const [i, j] = [choices.below(lines.length), choices.below(lines.length)];
  const changes: (() => void)[] = [
    () => lines.splice(i, 1),
    () => lines.splice(j, 0, lines[i]!),
    () => {
      [lines[i], lines[j]] = [lines[j]!, lines[i]!];
    },
    () => {
      lines[i] = JSON.stringify(JSON.parse(mutateJson(lines[i]!, choices)));
    },
    () => {
      lines[i] = JSON.stringify(JSON.parse(mutateJson(lines[i]!, choices)));
    },
  ];
  choices.of(changes)();
  return `${lines.join('\n')}\n`;
}
