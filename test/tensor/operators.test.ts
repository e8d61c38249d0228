import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import * as library from '../../lib/tensor/index.js';
import { scope, Tensor } from '../../lib/tensor/index.js';
import {
  convolutionSums,
  decode,
  type EncodedTensor,
  expectClose,
  libtorchAtLeast,
  readFixture,
} from '../support/fixtures.js';

type EncodedArgument =
  | { readonly tensor: EncodedTensor }
  | { readonly tensors: readonly EncodedTensor[] }
  | { readonly value: unknown };

interface Case {
  readonly operator: string;
  readonly name: string;
  readonly args: readonly EncodedArgument[];
  readonly options: Readonly<Record<string, unknown>>;
  readonly expected: readonly EncodedTensor[];
  readonly changed?: Readonly<Record<string, EncodedTensor>>;
  readonly cotangent?: EncodedTensor;
  readonly gradients?: Readonly<Record<string, EncodedTensor>>;
  readonly since?: string;
}

const cases = readFixture<Case[]>('operators.json');

function decodeArgument(argument: EncodedArgument): unknown {
  if ('tensor' in argument) return decode(argument.tensor);
  if ('tensors' in argument) return argument.tensors.map(decode);
  return argument.value;
}

/** The tensor at "2", or at "0.1" for the second of a list. */
function at(args: readonly unknown[], place: string): Tensor {
  return place.split('.').reduce<unknown>((value, i) => (value as unknown[])[Number(i)], args) as Tensor;
}

type AnyFunction = (this: unknown, ...args: unknown[]) => unknown;

/** The operators that are no methods. */
const functions = new Map(Object.entries(library) as [string, AnyFunction][]);

function call(operator: string, args: readonly unknown[], options: object): Tensor[] {
  const given = Object.keys(options).length > 0 ? [options] : [];
  const [first, ...others] = args;
  const result =
    first instanceof Tensor
      ? (first[operator as keyof Tensor] as AnyFunction).call(first, ...others, ...given)
      : functions.get(operator)!(...args, ...given);
  return result instanceof Tensor ? [result] : Object.values(result as Record<string, Tensor>);
}

function check(c: Case): void {
  const args = c.args.map(decodeArgument);
  for (const place of Object.keys(c.gradients ?? {})) at(args, place).requiresGrad = true;
  const results = call(c.operator, args, c.options);
  expect(results.length).toBe(c.expected.length);
  for (const [i, expected] of c.expected.entries()) expectClose(results[i]!, expected, `result ${i}`);
  for (const [i, expected] of Object.entries(c.changed ?? {})) {
    expectClose(args[Number(i)] as Tensor, expected, `argument ${i} afterwards`);
  }
  if (c.gradients === undefined) return;
  results[0]!.backward({ gradient: decode(c.cotangent!) });
  for (const [place, expected] of Object.entries(c.gradients)) {
    expectClose(at(args, place).grad!, expected, `gradient of argument ${place}`);
  }
}

describe.each([...new Set(cases.map((c) => c.operator))])('%s equals PyTorch', (operator) => {
  for (const c of cases.filter((each) => each.operator === operator)) {
    const isExact = c.operator !== 'conv2d' || c.name !== 'bfloat16' || convolutionSums() !== 'bfloat16';
    const supported = (c.since === undefined || libtorchAtLeast(c.since)) && isExact;
    const title = c.since === undefined ? c.name : `${c.name} (LibTorch has it on the CPU since ${c.since})`;
    it.skipIf(!supported)(title, () => scope(() => check(c)));
  }
});

/** Where the result's size is a value, where it is a copy of values, and linear algebra, which no training uses. */
const needsValues = ({ operator, name }: Case): boolean =>
  name === 'bool mask' || (operator === 'to' && name === 'the CPU') || operator.startsWith('cholesky');

/** Shape and dtype on meta, and the layout that LibTorch's CPU kernel leaves. */
function checkOnMeta(c: Case): void {
  const run = (move: (tensor: Tensor) => Tensor): { results: Tensor[]; gradients: (Tensor | null)[] } => {
    const args = c.args
      .map(decodeArgument)
      .map((value) =>
        value instanceof Tensor
          ? move(value)
          : Array.isArray(value)
            ? value.map((v) => (v instanceof Tensor ? move(v) : v))
            : value,
      );
    const places = Object.keys(c.gradients ?? {});
    for (const place of places) at(args, place).requiresGrad = true;
    const results = call(c.operator, args, c.options);
    if (places.length > 0) results[0]!.backward({ gradient: move(decode(c.cotangent!)) });
    return { results, gradients: places.map((place) => at(args, place).grad) };
  };
  const [onMeta, onCpu] = [run((tensor) => tensor.to({ device: 'meta' })), run((tensor) => tensor)];
  expect(onMeta.results.every(({ device }) => device === 'meta')).toBe(true);
  expect(onMeta.results.map(({ shape, dtype }) => ({ shape, dtype }))).toEqual(
    c.expected.map(({ shape, dtype }) => ({ shape, dtype })),
  );
  expect(onMeta.results.map(({ strides }) => strides)).toEqual(onCpu.results.map(({ strides }) => strides));
  expect(onMeta.gradients.map((gradient) => gradient?.shape)).toEqual(
    Object.values(c.gradients ?? {}).map(({ shape }) => shape),
  );
}

describe.skipIf(!libtorchAtLeast('2.4'))("on meta, an operator makes tensors like the CPU's", () => {
  for (const c of cases.filter((each) => !needsValues(each))) {
    it(`${c.operator}: ${c.name}`, () => scope(() => checkOnMeta(c)));
  }
});

/** The places of a case's tensors, as `at` takes them. */
function tensorPlaces(c: Case): string[] {
  return c.args.flatMap((argument, i) => {
    if ('tensors' in argument) return argument.tensors.map((_, k) => `${i}.${k}`);
    return 'tensor' in argument ? [String(i)] : [];
  });
}

/** LibTorch compares the devices of their tensors itself, and takes some that differ, as a scalar on the CPU beside meta. */
const mixesDevices = new Set(
  (
    JSON.parse(readFileSync(join(import.meta.dirname, '../../native/operators.json'), 'utf8')) as {
      schema: string;
      mixesDevices?: boolean;
    }[]
  )
    .filter(({ schema, mixesDevices }) => schema.includes('Operand') || mixesDevices)
    .map(({ schema }) => schema.slice(0, schema.indexOf('('))),
);

describe('one tensor on meta among others on the CPU', () => {
  const mixed = cases.filter((c) => tensorPlaces(c).length > 1);
  it.each([...new Set(mixed.map((c) => c.operator))])('never makes a tensor on the CPU: %s', (operator) => {
    for (const c of mixed.filter((each) => each.operator === operator)) {
      for (const moved of tensorPlaces(c)) {
        scope(() => {
          const place = (encoded: EncodedTensor, here: string): Tensor =>
            here === moved ? decode(encoded).to({ device: 'meta' }) : decode(encoded);
          const args = c.args.map((argument, i) => {
            if ('tensors' in argument) return argument.tensors.map((encoded, k) => place(encoded, `${i}.${k}`));
            return 'tensor' in argument ? place(argument.tensor, String(i)) : argument.value;
          });
          const run = () => call(operator, args, c.options);
          if (!mixesDevices.has(operator)) {
            const message = expect.stringMatching(/^\w+: expected all tensors on one device, got (cpu|meta) for /);
            expect(run, `${c.name}, ${moved}`).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', message }));
            return;
          }
          let made: Tensor[] = [];
          try {
            made = run();
          } catch (error) {
            expect(error, `${c.name}, ${moved}`).toMatchObject({ code: 'OPERATOR_FAILED' });
          }
          expect(made.map(({ device }) => device).filter((device) => device !== 'meta')).toEqual([]);
        });
      }
    }
  });
});

describe('the declared operators', () => {
  const declared = (
    JSON.parse(readFileSync(join(import.meta.dirname, '../../native/operators.json'), 'utf8')) as { schema: string }[]
  ).map(({ schema }) => schema.slice(0, schema.indexOf('(')));
  /** These draw random numbers; random.test.ts looks at what they draw. */
  const random = ['normal_', 'uniform_'];

  it('have each a case here', () => {
    const tried = new Set(cases.map((c) => c.operator));
    expect(declared.filter((name) => !tried.has(name)).sort()).toEqual(random);
    expect([...tried].filter((name) => !declared.includes(name))).toEqual([]);
  });

  it('have their gradients compared, all that are differentiable', () => {
    const compared = new Set(cases.filter((c) => c.gradients !== undefined).map((c) => c.operator));
    const notDifferentiable = ['eq', 'lt', 'gt', 'isfinite', 'argmax', 'all', 'detach'];
    const inPlace = declared.filter((name) => name.endsWith('_'));
    expect(declared.filter((name) => !compared.has(name)).sort()).toEqual([...notDifferentiable, ...inPlace].sort());
  });
});
