// Options that are no object, and options that there are not: every public call of tensors, modules and optimisers refuses them by
// name.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as evaluation from '../lib/evaluation/index.js';
import * as nn from '../lib/nn/index.js';
import * as optim from '../lib/optim/index.js';
import * as library from '../lib/tensor/index.js';
import { scope, tensor, zeros } from '../lib/tensor/index.js';

type Call = (options: never) => unknown;

const operatorsFile = new URL('../native/operators.json', import.meta.url);
const operators = (JSON.parse(readFileSync(operatorsFile, 'utf8')) as { schema: string }[])
  .map(({ schema }) => /^(\w+)\((.*), \*, (.*)\) ->/.exec(schema))
  .filter((match) => match !== null)
  .map(([, name, positional, options]): [string, Call, string[]] => {
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
      [...options!.matchAll(/(\w+)=/g)].map(([, option]) => option!),
    ];
  });

const CREATION = ['dtype', 'device'];

const others: [string, Call, string[]][] = [
  ['full', (options) => library.full([1], 2, options), CREATION],
  ['full', (options) => zeros([1], options), CREATION],
  ['full', (options) => library.ones([1], options), CREATION],
  ['empty', (options) => library.empty([1], options), CREATION],
  ['rand', (options) => library.rand([1], options), [...CREATION, 'generator']],
  ['randn', (options) => library.randn([1], options), [...CREATION, 'generator']],
  ['arange', (options) => library.arange(3, options), CREATION],
  ['tensor', (options) => tensor([1], options), [...CREATION, 'shape']],
  ['backward', (options) => zeros([]).backward(options), ['gradient', 'retainGraph']],
  ['autocast', (options) => library.autocast(options, () => 1), ['device', 'dtype']],
  ['Generator.create', (options) => library.Generator.create(options), ['seed', 'device']],
  [
    'Conv2d',
    (options) => new nn.Conv2d(options),
    ['inChannels', 'outChannels', 'kernelSize', 'stride', 'padding', 'dilation', 'groups', 'bias', 'init'],
  ],
  ['Linear', (options) => new nn.Linear(options), ['inFeatures', 'outFeatures', 'bias', 'init']],
  ['BatchNorm2d', (options) => new nn.BatchNorm2d(options), ['features', 'momentum', 'eps']],
  ['BatchNorm1d', (options) => new nn.BatchNorm1d(options), ['features', 'momentum', 'eps']],
  ['GroupNorm', (options) => new nn.GroupNorm(options), ['numGroups', 'numChannels', 'eps', 'affine']],
  ['LayerNorm', (options) => new nn.LayerNorm(options), ['normalizedShape', 'eps', 'elementwiseAffine', 'bias']],
  ['LeakyReLU', (options) => new nn.LeakyReLU(options), ['negativeSlope']],
  ['GELU', (options) => new nn.GELU(options), ['approximate']],
  ['Upsample', (options) => new nn.Upsample(options), ['size', 'scaleFactor', 'mode', 'alignCorners']],
  ['Dropout2d', (options) => new nn.Dropout2d(options), ['p']],
  ['ReLU', (options) => new nn.ReLU(options), ['inPlace']],
  ['MaxPool2d', (options) => new nn.MaxPool2d(options), ['kernelSize', 'stride', 'padding']],
  ['AvgPool2d', (options) => new nn.AvgPool2d(options), ['kernelSize', 'stride', 'padding']],
  ['AdaptiveAvgPool2d', (options) => new nn.AdaptiveAvgPool2d(options), ['outputSize']],
  ['Dropout', (options) => new nn.Dropout(options), ['p']],
  [
    'Sgd',
    (options) => new optim.Sgd([], options),
    ['learningRate', 'momentum', 'dampening', 'weightDecay', 'nesterov'],
  ],
  ['AdamW', (options) => new optim.AdamW([], options), ['learningRate', 'betas', 'eps', 'weightDecay']],
  [
    'Muon',
    (options) => new optim.Muon([], options),
    ['learningRate', 'momentum', 'nesterov', 'weightDecay', 'iterations', 'eps', 'dtype', 'sgd'],
  ],
  ['GradScaler', (options) => new optim.GradScaler(options), ['scale', 'growthInterval', 'goodSteps', 'skipped']],
  ['cosine', (options) => optim.cosine(options), ['initial', 'steps']],
  ['linearWarmup', (options) => optim.linearWarmup(options), ['steps', 'startFactor', 'schedule']],
  ['oneCycle', (options) => optim.oneCycle(options), ['highest', 'steps', 'pctStart', 'divFactor', 'finalDivFactor']],
  ['multiStep', (options) => optim.multiStep(options), ['initial', 'milestones', 'factor']],
  [
    'minimizeLbfgs',
    (options) => optim.minimizeLbfgs(() => expect.fail('it was called'), zeros([1]), options),
    ['history', 'tolerance', 'maxIterations', 'preconditioner'],
  ],
  [
    'fitOneVersusRest',
    (options) => evaluation.fitOneVersusRest(zeros([2, 1]), zeros([2]), options),
    ['classes', 'l2', 'tolerance', 'maxIterations'],
  ],
  ['predictAll', (options) => evaluation.predictAll(images, () => zeros([1]), options), ['batchSize', 'breathe']],
];

const images = { batches: () => expect.fail('it was called') } as never;

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

describe('an option that there is not', () => {
  it.each([...operators, ...others])(
    '%s refuses it by its name, and lists those that there are',
    (name, call, known) => {
      const message = `${name}: unknown option misspelled, expected ${known.join(', ')} for options`;
      const expected = expect.objectContaining({ code: 'INVALID_ARGUMENT', message });
      expect(() => scope(() => call({ misspelled: 1 } as never))).toThrow(expected);
      // Also where nobody would have read it, and where it is inherited.
      expect(() => scope(() => call({ misspelled: undefined } as never))).toThrow(expected);
      expect(() => scope(() => call(Object.create({ misspelled: 1 }) as never))).toThrow(expected);
    },
  );

  it('is looked for in all that is an object of names', () => {
    expect(() => library.sgdStep([], [], { rate: 1 } as never)).toThrow(
      'sgdStep: unknown option rate, expected learningRate, momentum, dampening, weightDecay, nesterov, isFirstStep for step',
    );
    expect(() => new nn.ReLU().to({ dytpe: 'float64' } as never)).toThrow(
      'Module.to: unknown option dytpe, expected device, dtype, memoryFormat for placement',
    );
    expect(() => new optim.Sgd([], { learningRate: 1 }).restore({ buffers: [] } as never)).toThrow(
      'Sgd.restore: unknown option buffers, expected tensors, isFirstStep for options',
    );
  });
});

it('an option that is undefined is one that is left out', () => {
  const value = scope(() =>
    library
      .ones([2])
      .sum({ dims: undefined as never })
      .item(),
  );
  expect(value).toBe(2);
  expect(new optim.Sgd([], { learningRate: 1, momentum: undefined as never }).state.tensors.size).toBe(0);
});

it('a size that is left out of the options is refused by its name', () => {
  expect(() => new nn.MaxPool2d({} as never)).toThrow('MaxPool2d: expected an integer of at least 1 for kernelSize');
  expect(() => new nn.AdaptiveAvgPool2d({} as never)).toThrow(
    'AdaptiveAvgPool2d: expected an integer of at least 1 for outputSize',
  );
});
