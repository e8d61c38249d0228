// Options that are no object: every public call of tensors, modules and optimisers refuses them by name.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as nn from '../lib/nn/index.js';
import * as optim from '../lib/optim/index.js';
import * as library from '../lib/tensor/index.js';
import { scope, tensor, zeros } from '../lib/tensor/index.js';

type Call = (options: never) => unknown;

const operatorsFile = new URL('../native/operators.json', import.meta.url);
const operators = (JSON.parse(readFileSync(operatorsFile, 'utf8')) as { schema: string }[])
  .map(({ schema }) => /^(\w+)\((.*), \*, .*\) ->/.exec(schema))
  .filter((match) => match !== null)
  .map(([, name, positional]): [string, Call] => {
    const types = positional!.split(', ');
    const isMethod = types[0] === 'Tensor self';
    // Options are looked at before any other argument.
    const others = Array.from({ length: types.length - (isMethod ? 1 : 0) });
    return [
      name!,
      (options) => {
        const owner = (isMethod ? zeros([2]) : library) as unknown as Record<string, (...args: unknown[]) => unknown>;
        return owner[name!]!(...others, options);
      },
    ];
  });

const others: [string, Call][] = [
  ['full', (options) => library.full([1], 2, options)],
  ['full', (options) => zeros([1], options)],
  ['full', (options) => library.ones([1], options)],
  ['empty', (options) => library.empty([1], options)],
  ['empty', (options) => library.rand([1], options)],
  ['empty', (options) => library.randn([1], options)],
  ['arange', (options) => library.arange(3, options)],
  ['tensor', (options) => tensor([1], options)],
  ['backward', (options) => zeros([]).backward(options)],
  ['autocast', (options) => library.autocast(options, () => 1)],
  ['Generator.create', (options) => library.Generator.create(options)],
  ['Conv2d', (options) => new nn.Conv2d(options)],
  ['Linear', (options) => new nn.Linear(options)],
  ['BatchNorm2d', (options) => new nn.BatchNorm2d(options)],
  ['ReLU', (options) => new nn.ReLU(options)],
  ['MaxPool2d', (options) => new nn.MaxPool2d(options)],
  ['AvgPool2d', (options) => new nn.AvgPool2d(options)],
  ['AdaptiveAvgPool2d', (options) => new nn.AdaptiveAvgPool2d(options)],
  ['Dropout', (options) => new nn.Dropout(options)],
  ['Sgd', (options) => new optim.Sgd([], options)],
  ['GradScaler', (options) => new optim.GradScaler(options)],
  ['multiStep', (options) => optim.multiStep(options)],
  ['minimizeLbfgs', (options) => optim.minimizeLbfgs(() => expect.fail('it was called'), zeros([1]), options)],
];

describe('options that are no object', () => {
  it.each([...operators, ...others])('%s refuses', (name, call) => {
    for (const [value, got] of [
      [null, 'null'],
      [1, 'number'],
      ['int64', 'string'],
      [[1], 'an array'],
    ]) {
      const message = `${name}: expected an object for options, got ${got}`;
      expect(() => scope(() => call(value as never))).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT', message }),
      );
    }
  });

  it('are called by the names that the calls give them', () => {
    const expected = (message: string) => expect.objectContaining({ code: 'INVALID_ARGUMENT', message });
    expect(() => library.sgdStep([], [], null as never)).toThrow(
      expected('sgdStep: expected an object for step, got null'),
    );
    expect(() => new nn.ReLU().to(null as never)).toThrow(
      expected('Module.to: expected an object for placement, got null'),
    );
  });

  it('may be a tensor too many', () => {
    scope(() => {
      expect(() => zeros([2]).add(zeros([2]), zeros([2]) as never)).toThrow(
        'add: expected an object for options, got a tensor',
      );
    });
  });
});

it('a size that is left out of the options is refused by its name', () => {
  expect(() => new nn.MaxPool2d({} as never)).toThrow('MaxPool2d: expected an integer of at least 1 for kernelSize');
  expect(() => new nn.AdaptiveAvgPool2d({} as never)).toThrow(
    'AdaptiveAvgPool2d: expected an integer of at least 1 for outputSize',
  );
});
