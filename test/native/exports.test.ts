import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import * as library from '../../lib/tensor/index.js';
import { native } from '../../lib/tensor/native.js';

const root = join(import.meta.dirname, '../..');
const schemas = (
  JSON.parse(readFileSync(join(root, 'native/operators.json'), 'utf8')) as { schema: string; doc: string }[]
).map(({ schema, doc }) => ({ name: schema.slice(0, schema.indexOf('(')), schema, doc }));

/** An operand may be a tensor or a number: two native functions. */
const declared = schemas.flatMap(({ name, schema }) =>
  schema.includes('Operand ') ? [name, `${name}Scalar`] : [name],
);

/** What lib/tensor/native.ts declares by hand, read from its text: types are gone at run time. */
function writtenByHand(): string[] {
  const text = readFileSync(join(root, 'lib/tensor/native.ts'), 'utf8');
  const body = /interface NativeAddon extends NativeOperators \{\n(.*?)\n\}/s.exec(text)![1]!;
  return [...body.matchAll(/^ {2}(\w+)\(/gm)].map((match) => match[1]!);
}

it('exports exactly the functions that the operator list and lib/tensor/native.ts declare', () => {
  expect(Object.keys(native).sort()).toEqual([...declared, ...writtenByHand()].sort());
});

it('gives every declared operator a method of Tensor or a function', () => {
  const face = (name: string) => Object.getOwnPropertyDescriptor(Object.getPrototypeOf(library.Tensor.prototype), name);
  const missing = schemas.filter(({ name }) => face(name) === undefined && !(name in library));
  expect(missing).toEqual([]);
});

it('declares every operator once, with a line of documentation', () => {
  expect(new Set(schemas.map(({ name }) => name)).size).toBe(schemas.length);
  expect(schemas.filter(({ doc }) => !/^\S.*\.$/.test(doc))).toEqual([]);
});

it('keeps its maker of errors when it is given what is no function', () => {
  const refusal = expect.objectContaining({ name: 'TensorError', code: 'INVALID_ARGUMENT' });
  for (const value of [5, null, {}]) expect(() => native.setErrorFactory(value as never)).toThrow(refusal);
});
