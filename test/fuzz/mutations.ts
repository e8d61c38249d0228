// Seeded damage to text files, as disks, editors and hands do it. LAYERWISE_FUZZ_COUNT and LAYERWISE_FUZZ_SEED change how
// much of it a test tries; a failure names its number, with which it can be had again alone.

export const FUZZ_COUNT = Number(process.env.LAYERWISE_FUZZ_COUNT ?? 200);
export const FUZZ_SEED = Number(process.env.LAYERWISE_FUZZ_SEED ?? 1);

/** Integers below a bound. */
export type Draw = (bound: number) => number;

/** xorshift32, of a seed and the number of the mutation. */
export function drawsOf(seed: number, number: number): Draw {
  let state = (Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(number + 1, 0x85ebca6b)) >>> 0 || 1;
  const next = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state;
  };
  for (let i = 0; i < 8; i++) next();
  return (bound) => next() % bound;
}

const pick = <T>(values: readonly T[], draw: Draw): T => values[draw(values.length)]!;

/** Damage to the bytes. */
export function mutateBytes(bytes: Buffer, draw: Draw): Buffer {
  const from = draw(bytes.length);
  const to = Math.min(bytes.length, from + 1 + draw(20));
  const [before, middle, after] = [bytes.subarray(0, from), bytes.subarray(from, to), bytes.subarray(to)];
  const noise = Buffer.from(Array.from({ length: 1 + draw(8) }, () => draw(256)));
  const flipped = Buffer.from(bytes);
  flipped[from]! ^= 1 << draw(8);
  return pick(
    [
      () => flipped,
      () => Buffer.concat([before, after]),
      () => Buffer.concat([before, middle, middle, after]),
      () => Buffer.concat([before, noise, after]),
      () => Buffer.concat([before, Buffer.alloc(middle.length), after]),
      () => Buffer.from(before),
      () =>
        Buffer.concat([
          before,
          Buffer.from(pick(['\n', ',', '}', '"', '-', '9', '.', 'e9', '1e400'], draw)),
          middle,
          after,
        ]),
    ],
    draw,
  )();
}

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
export function mutateJson(text: string, draw: Draw): string {
  const root = JSON.parse(text) as Container;
  const container = pick(
    containersOf(root).filter((one) => Object.keys(one).length > 0),
    draw,
  );
  const values = container as Record<string, unknown>;
  const [key, other] = [pick(Object.keys(values), draw), pick(Object.keys(values), draw)];
  const changes: (() => void)[] = [
    () => {
      values[key] = pick(VALUES, draw);
    },
    () => {
      if (Array.isArray(container)) container.splice(Number(key), 1);
      else delete values[key];
    },
    () => {
      if (Array.isArray(container)) container.push(values[key]);
      else values[pick(['extra', 'data', 'startedFrom', 'notes'], draw)] = pick(VALUES, draw);
    },
    () => {
      [values[key], values[other]] = [values[other], values[key]];
    },
    () => {
      const value = values[key];
      values[key] =
        typeof value === 'number' ? pick([value + 1, value - 1, -value, value / 2, value * 1e6], draw) : [value];
    },
  ];
  pick(changes, draw)();
  return JSON.stringify(root, null, 2);
}

/** Damage to one line, or to the order of the lines. */
export function mutateLines(text: string, draw: Draw): string {
  const lines = text.trimEnd().split('\n');
  const [i, j] = [draw(lines.length), draw(lines.length)];
  const changes: (() => void)[] = [
    () => lines.splice(i, 1),
    () => lines.splice(j, 0, lines[i]!),
    () => {
      [lines[i], lines[j]] = [lines[j]!, lines[i]!];
    },
    () => {
      lines[i] = JSON.stringify(JSON.parse(mutateJson(lines[i]!, draw)));
    },
    () => {
      lines[i] = JSON.stringify(JSON.parse(mutateJson(lines[i]!, draw)));
    },
  ];
  pick(changes, draw)();
  return `${lines.join('\n')}\n`;
}
