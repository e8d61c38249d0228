// Reads the declared operators (native/operators.json) and writes the C++ binding and the TypeScript face of each:
// out/generated/operators.inc and lib/tensor/generated/operators.ts. Files are only touched when their text changes,
// so that neither compiler rebuilds without need.
//
// A schema is written like LibTorch's own:  name(Type arg, Type arg, *, Type option=default) -> Type
// Arguments before the * are positional in TypeScript, those after it are members of an options object.
//
// Tensors of one call must lie on one device. Where LibTorch compares devices itself and allows some to differ, as a scalar on
// the CPU beside tensors on a GPU, the operator takes an Operand or says "mixesDevices".

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isPackage, outDir, root } from './support/paths.mjs';

/**
 * An operator as native/operators.json declares it.
 * @typedef {{ schema: string, doc: string, call?: string, include?: string, mixesDevices?: boolean }} Declaration
 */

/**
 * `option`: a member of the options object in TypeScript, with a default.
 * @typedef {{ type: string, name: string, defaultValue: string | undefined, option: boolean }} Argument
 */

/**
 * `call` is what C++ calls, `include` the header of it, or null where there is none.
 * @typedef {object} Operator
 * @property {string} name
 * @property {Argument[]} args
 * @property {string} returns
 * @property {string} doc
 * @property {boolean} mixesDevices
 * @property {string} call
 * @property {string | null} include
 */

/**
 * @typedef {object} SchemaType
 * @property {string} cpp
 * @property {string} ts
 * @property {(value: string, as: string) => string} [read]
 * @property {(value: string, as: string) => string} [pass]
 */

/**
 * How each schema type is read in C++, typed in TypeScript, and passed across the boundary. `as` is the argument's and the
 * operator's name, for the error when a caller without types passes something else. `read` is done before any handle is
 * taken: it can run code of the caller, a getter, which may free a tensor whose handle another one then gets.
 * @type {Readonly<Record<string, SchemaType>>}
 */
const types = {
  Tensor: { cpp: 'tensor', ts: 'Tensor', pass: (v, as) => `handleOf(${v}, ${as})` },
  'Tensor?': { cpp: 'optionalTensor', ts: 'Tensor | null', pass: (v, as) => `handleOrNone(${v}, ${as})` },
  'Tensor[]': {
    cpp: 'tensors',
    ts: 'readonly Tensor[]',
    read: (v, as) => `tensorsOf(${v}, ${as})`,
    pass: (v) => `handlesOf(${v})`,
  },
  Scalar: { cpp: 'scalar', ts: 'number' },
  // A number that stands beside self in an operator.
  OperandNumber: { cpp: 'operand', ts: 'number' },
  // A number that becomes elements of self: one that self's dtype cannot hold is refused.
  Element: { cpp: 'element', ts: 'number' },
  int: { cpp: 'integer', ts: 'number' },
  'int?': { cpp: 'optionalInteger', ts: 'number | null' },
  float: { cpp: 'number', ts: 'number' },
  bool: { cpp: 'boolean', ts: 'boolean' },
  'int[]': { cpp: 'integers', ts: 'readonly number[]', read: (v, as) => `integersOf(${v}, ${as})` },
  'int[]?': {
    cpp: 'optionalIntegers',
    ts: 'readonly number[] | null',
    read: (v, as) => `integersOrNull(${v}, ${as})`,
  },
  'int[2]': {
    cpp: 'pair',
    ts: 'number | readonly [number, number]',
    read: (v, as) => `numberOrIntegers(${v}, ${as})`,
  },
  'DType?': { cpp: 'optionalDType', ts: 'DType | null', read: (v) => `codeOrNull(${v}, dtypeCode)` },
  'Device?': { cpp: 'optionalDevice', ts: 'Device | null', read: (v) => `codeOrNull(${v}, deviceCode)` },
  MemoryFormat: { cpp: 'memoryFormat', ts: 'MemoryFormat', read: (v) => `memoryFormatCode(${v})` },
  'MemoryFormat?': {
    cpp: 'optionalMemoryFormat',
    ts: 'MemoryFormat | null',
    read: (v) => `codeOrNull(${v}, memoryFormatCode)`,
  },
  Reduction: { cpp: 'integer', ts: 'Reduction', read: (v) => `reductionCode(${v})` },
  GeluApproximation: { cpp: 'integer', ts: 'GeluApproximation', read: (v) => `geluApproximationCode(${v})` },
  'Generator?': { cpp: 'optionalGenerator', ts: 'Generator | null', pass: (v, as) => `generatorOrNone(${v}, ${as})` },
};

/**
 * @param {Declaration} declaration
 * @returns {Operator}
 */
function parseSchema({ schema, doc, call, include, mixesDevices = false }) {
  const match = /^(\w+)\((.*)\) -> (.+)$/.exec(schema);
  if (match === null) throw new Error(`operators.json: cannot read the schema "${schema}"`);
  const [, name, list, returns] = match;
  /** @type {Argument[]} */
  const args = [];
  let option = false;
  for (const part of list.split(/,\s+/)) {
    if (part === '*') {
      option = true;
      continue;
    }
    const arg = /^(\S+) (\w+)(?:=(.+))?$/.exec(part);
    if (arg === null) throw new Error(`operators.json: cannot read the argument "${part}" of "${schema}"`);
    const [, type, argName, defaultValue] = arg;
    if (type !== 'Operand' && !(type in types))
      throw new Error(`operators.json: unknown type "${type}" in "${schema}"`);
    if (option !== (defaultValue !== undefined)) {
      throw new Error(`operators.json: in "${schema}", "${argName}" must ${option ? '' : 'not '}have a default`);
    }
    args.push({ type, name: argName, defaultValue, option });
  }
  return {
    name,
    args,
    returns,
    doc,
    mixesDevices: mixesDevices || args.some((arg) => arg.type === 'Operand'),
    call: call ?? `at::${name}`,
    include: include ?? headerName(call ?? `at::${name}`),
  };
}

/**
 * The header of a LibTorch function; the project's own helpers have none.
 * @param {string} call
 */
function headerName(call) {
  return call.startsWith('at::') ? call.slice('at::'.length) : null;
}

/**
 * An operator with an Operand argument is two native functions: one takes a tensor there, one a number.
 * @param {Operator} operator
 * @returns {Operator[]}
 */
function nativeVariants(operator) {
  if (!operator.args.some((arg) => arg.type === 'Operand')) return [operator];
  /** @param {string} type */
  const as = (type) => operator.args.map((arg) => (arg.type === 'Operand' ? { ...arg, type } : arg));
  return [
    { ...operator, args: as('Tensor') },
    { ...operator, name: `${operator.name}Scalar`, args: as('OperandNumber') },
  ];
}

/** @param {Operator} operator */
function cppFunction({ name, args, returns, call, mixesDevices }) {
  const publicName = name.replace(/Scalar$/, '');
  const inPlace = returns === 'void';
  const values = args.map((arg, i) => `a.${types[arg.type].cpp}(${i}, "${arg.name}")`);
  // In-place operators and a few others are members of at::Tensor and do not exist as functions.
  const isMember = inPlace || call.startsWith('.');
  const member = call.replace(/^(at::|\.)/, '');
  const expression = isMember
    ? `${values[0]}.${member}(${values.slice(1).join(', ')})`
    : `${call}(${values.join(', ')})`;
  const comparesDevices = !mixesDevices && takesSeveralTensors(args);
  const body = inPlace
    ? `${expression}; forgetConverted(${values[0]}); return a.nothing();`
    : `return a.result(${expression});`;
  return `napi_value operator_${name}(napi_env env, napi_callback_info info) {
  return guarded<${args.length}>(env, info, "${publicName}", [](auto& a) -> napi_value { ${comparesDevices ? 'a.requireOneDevice(); ' : ''}${body} });
}`;
}

/** @param {Argument[]} args */
function takesSeveralTensors(args) {
  const tensors = args.filter(({ type }) => type.startsWith('Tensor'));
  return tensors.length > 1 || tensors.some(({ type }) => type === 'Tensor[]');
}

/** @param {Operator} operator */
function headerOf({ include, returns }) {
  if (returns === 'void') return null;
  return include === null ? null : `#include <ATen/ops/${include}.h>`;
}

/** @param {Operator[]} operators */
function generateCpp(operators) {
  const natives = operators.flatMap(nativeVariants);
  const headers = [...new Set(operators.map(headerOf).filter((h) => h !== null))].sort();
  return `// Generated from native/operators.json by scripts/generate-operators.mjs.
#if defined(LAYERWISE_OPERATOR_HEADERS)
${headers.join('\n')}
#else
${natives.map(cppFunction).join('\n')}

const NativeFunction kOperators[] = {
${natives.map(({ name }) => `    {"${name}", operator_${name}},`).join('\n')}
};
#endif
`;
}

/** @param {Argument} argument */
function tsArgument({ type, name, option }) {
  const ts = type === 'Operand' ? 'Tensor | number' : types[type].ts;
  return `${name}${option ? '?' : ''}: ${ts}`;
}

/**
 * The constant with the names of an operator's options.
 * @param {Operator} operator
 */
const optionNames = ({ name }) => `${name}Options`;

/**
 * @param {Argument} argument
 * @param {string} operator
 */
const tsNames = ({ name }, operator) => `'${name}', '${operator}'`;

/**
 * The lines that read the arguments whose reading can run the caller's code, each into a constant.
 * @param {Argument[]} args
 * @param {string} operator
 */
function tsReads(args, operator) {
  return args
    .filter((arg) => arg.option || types[arg.type].read !== undefined)
    .map((arg) => {
      const value = arg.option ? `options.${arg.name} ?? ${arg.defaultValue}` : arg.name;
      const { read } = types[arg.type];
      return `const ${arg.name}Read = ${read === undefined ? value : read(value, tsNames(arg, operator))};`;
    });
}

/**
 * @param {Argument} arg
 * @param {string} operator
 */
function tsPassed(arg, operator) {
  const { read, pass = (v) => v } = types[arg.type];
  return pass(arg.option || read !== undefined ? `${arg.name}Read` : arg.name, tsNames(arg, operator));
}

/**
 * @param {string} returns
 * @param {string} expression
 * @param {string} adopt what makes a Tensor of a handle
 */
function tsReturn(returns, expression, adopt) {
  if (returns === 'void') return { type: 'this', body: `${expression};\n    return this;` };
  if (returns === 'Tensor') {
    // The call comes first: of an empty list there is no first tensor, and the native side says so.
    const body =
      adopt === 'this.adopt'
        ? `return ${adopt}(${expression});`
        : `const handle = ${expression};\n    return ${adopt}(handle);`;
    return { type: 'Tensor', body };
  }
  const fields = [...returns.matchAll(/Tensor (\w+)/g)].map((m) => m[1]);
  const type = `{ ${fields.map((f) => `${f}: Tensor`).join('; ')} }`;
  const body = `const handles = ${expression};
    return { ${fields.map((f, i) => `${f}: ${adopt}(handles[${i}]!)`).join(', ')} };`;
  return { type, body };
}

/** @param {Operator} operator */
function tsOperator(operator) {
  const { name, args, returns, doc } = operator;
  const isMethod = args[0].name === 'self';
  const own = isMethod ? args.slice(1) : args;
  const positional = own.filter((arg) => !arg.option);
  const options = own.filter((arg) => arg.option);
  const parameters = positional.map(tsArgument);
  if (options.length > 0) parameters.push(`options: { ${options.map(tsArgument).join('; ')} } = NO_OPTIONS`);

  const self = isMethod ? ['this.handle'] : [];
  /** @param {Operator} variant */
  const callOf = (variant) =>
    `native.${variant.name}(${[...self, ...variant.args.slice(isMethod ? 1 : 0).map((arg) => tsPassed(arg, name))].join(', ')})`;
  const adopt = isMethod ? 'this.adopt' : `${args[0].name}Read[0]!.adopt`;
  const variants = nativeVariants(operator);
  const reads = tsReads(
    own.filter((arg) => arg.type !== 'Operand'),
    name,
  );
  const lines =
    options.length === 0
      ? reads
      : [`if (options !== NO_OPTIONS) checkOptions(options, '${name}', ${optionNames(operator)});`, ...reads];
  if (variants.length === 2) {
    const operand = own.find((arg) => arg.type === 'Operand')?.name;
    const scalar = tsReturn(returns, callOf(variants[1]), adopt).body.replaceAll('\n', '\n  ');
    lines.push(`if (typeof ${operand} === 'number') {\n      ${scalar}\n    }`);
  }
  const { type, body } = tsReturn(returns, callOf(variants[0]), adopt);
  lines.push(body);
  const signature = `${name}(${parameters.join(', ')}): ${type}`;
  return {
    isMethod,
    text: `/** ${doc} */\n  ${isMethod ? '' : 'export function '}${signature} {\n    ${lines.join('\n    ')}\n  }`,
  };
}

/** @param {Operator} operator */
function nativeType({ name, args, returns }) {
  const result = returns === 'void' ? 'void' : returns === 'Tensor' ? 'number' : 'number[]';
  return `  ${name}(${args.map((arg) => `${arg.name === 'self' ? 'self' : arg.name}: ${nativeArgument(arg.type)}`).join(', ')}): ${result};`;
}

/**
 * What the native functions take of each schema type, where that is no number.
 * @type {Readonly<Record<string, string | undefined>>}
 */
const nativeTypes = {
  'Tensor[]': 'Int32Array',
  bool: 'boolean',
  'int?': 'number | null',
  'int[]': 'Float64Array',
  'int[]?': 'Float64Array | null',
  'int[2]': 'number | Float64Array',
  'DType?': 'number | null',
  'Device?': 'number | null',
  'MemoryFormat?': 'number | null',
};

/** @param {string} type */
function nativeArgument(type) {
  return nativeTypes[type] ?? 'number';
}

/** @param {Operator[]} operators */
function generateTs(operators) {
  const all = operators.map(tsOperator);
  return `// Generated from native/operators.json by scripts/generate-operators.mjs.

import type { Device } from '../device.js';
import { deviceCode } from '../device.js';
import type { DType, GeluApproximation, MemoryFormat, Reduction } from '../dtype.js';
import { dtypeCode, geluApproximationCode, memoryFormatCode, reductionCode } from '../dtype.js';
import {
  checkOptions,
  codeOrNull,
  generatorOrNone,
  handleOf,
  handleOrNone,
  handlesOf,
  integersOf,
  integersOrNull,
  numberOrIntegers,
  tensorsOf,
} from '../handle.js';
import { native } from '../native.js';
import type { Generator } from '../random.js';
import type { Tensor } from '../tensor.js';

const NO_OPTIONS = Object.freeze({});

// The names of the operators' options.
${operators
  .filter(({ args }) => args.some((arg) => arg.option))
  .map((operator) => {
    const names = operator.args.filter((arg) => arg.option).map(({ name }) => `'${name}'`);
    return `const ${optionNames(operator)} = [${names.join(', ')}] as const;`;
  })
  .join('\n')}

/** The native functions behind the operators: handles and codes, no objects. */
export interface NativeOperators {
${operators.flatMap(nativeVariants).map(nativeType).join('\n')}
}

/** The operators of a tensor, one method each; \`Tensor\` adds what is not an operator. */
export abstract class TensorOperators {
  abstract readonly handle: number;
  /** @internal Makes the tensor that owns a native handle. */
  abstract adopt(handle: number): Tensor;

  ${all
    .filter((o) => o.isMethod)
    .map((o) => o.text)
    .join('\n\n  ')}
}

${all
  .filter((o) => !o.isMethod)
  .map((o) => o.text.replaceAll('\n  ', '\n'))
  .join('\n\n')}
`;
}

/**
 * @param {string} path
 * @param {string} text
 */
function writeIfChanged(path, text) {
  mkdirSync(dirname(path), { recursive: true });
  let before = null;
  try {
    before = readFileSync(path, 'utf8');
  } catch {
    // Not there yet.
  }
  if (before !== text) writeFileSync(path, text);
}

const out = outDir();
/** @type {Declaration[]} */
const declarations = JSON.parse(readFileSync(join(root, 'native', 'operators.json'), 'utf8'));
const operators = declarations.map(parseSchema);
writeIfChanged(join(out, 'generated', 'operators.inc'), generateCpp(operators));
// A package holds what it was compiled to.
if (!isPackage) writeIfChanged(join(root, 'lib', 'tensor', 'generated', 'operators.ts'), generateTs(operators));
