import { expect, it } from 'vitest';
import { EXIT, exitCodeOf, messageOf, UsageError } from '../../lib/cli/exit.js';
import {
  cacheBudget,
  device,
  imageSize,
  integer,
  integerOrList,
  notNegativeNumber,
  numberOf,
  positiveNumber,
} from '../../lib/cli/options.js';
import { DataError } from '../../lib/data/errors.js';
import { FeatureCacheError } from '../../lib/features/errors.js';
import { RecipeError } from '../../lib/recipe/errors.js';
import { RunDirectoryError } from '../../lib/run/errors.js';
import { NonFiniteLossError, TrainingInterrupted } from '../../lib/training/errors.js';

it('an integer is digits, from its minimum, that a number can hold exactly', () => {
  expect(integer(0)('0')).toBe(0);
  expect(integer(1)('128')).toBe(128);
  expect(integer(0)('9007199254740991')).toBe(Number.MAX_SAFE_INTEGER);
  for (const text of ['0', '-1', '+1', '2.5', '1e3', '0x10', '', ' 1', '1 ', 'abc', 'NaN', '9007199254740992']) {
    expect(() => integer(1)(text)).toThrow(`Expected an integer of at least 1, got "${text}".`);
  }
  expect([integer(1, 8)('1'), integer(1, 8)('8')]).toEqual([1, 8]);
  for (const text of ['0', '9', 'x']) {
    expect(() => integer(1, 8)(text)).toThrow(`Expected an integer from 1 to 8, got "${text}".`);
  }
});

it('a list of integers has commas, and one alone is a number', () => {
  expect(integerOrList(1)('4')).toBe(4);
  expect(integerOrList(1)('2,1')).toEqual([2, 1]);
  expect(integerOrList(1)('2,')).toEqual([2]);
  for (const text of ['', ',', '2,,1', ',2', '0', '2,0', '2, 1', '[2,1]', '2;1', '-2,1', '1.5']) {
    expect(() => integerOrList(1)(text)).toThrow(
      `Expected an integer of at least 1 such as 4, or a list of them such as 2,1, got "${text}".`,
    );
  }
});

it('an image size is pixels a side, or height x width', () => {
  expect(imageSize(1)('32')).toBe(32);
  expect(imageSize(1)('32x48')).toEqual([32, 48]);
  for (const text of [
    '',
    'x',
    '32x',
    'x48',
    '32x48x3',
    '32 x 48',
    '32X48',
    '32,48',
    '[32,48]',
    '0',
    '32x0',
    '-1',
    '1.5',
  ]) {
    expect(() => imageSize(1)(text)).toThrow(
      `Expected pixels a side such as 64, or height x width such as 64x96, got "${text}".`,
    );
  }
  expect(() => imageSize(32)('64x31')).toThrow('Expected pixels a side of at least 32 such as 64, or height x width');
});

it('a number of a few is one of them', () => {
  expect([numberOf([3, 1])('3'), numberOf([3, 1])('1')]).toEqual([3, 1]);
  for (const text of ['2', '', '1.0', ' 1']) {
    expect(() => numberOf([3, 1])(text)).toThrow(`Expected 3 or 1, got "${text}".`);
  }
});

it('a rate is a finite number above 0', () => {
  expect(positiveNumber('0.05')).toBe(0.05);
  expect(positiveNumber('5e-4')).toBe(0.0005);
  expect(positiveNumber('.5')).toBe(0.5);
  for (const text of [
    '0',
    '-0.1',
    '',
    ' ',
    'abc',
    '0.1x',
    '0,1',
    'Infinity',
    'NaN',
    '1e999',
    '0x10',
    '0b11',
    ' 5',
    '-0',
  ]) {
    expect(() => positiveNumber(text)).toThrow(`Expected a number above 0, got "${text}".`);
  }
});

it('a part may be 0', () => {
  expect(notNegativeNumber('0')).toBe(0);
  expect(notNegativeNumber('.1')).toBe(0.1);
  for (const text of ['-0.1', '', 'abc', 'Infinity', '1e999', '-0']) {
    expect(() => notNegativeNumber(text)).toThrow(`Expected a number of at least 0, got "${text}".`);
  }
});

it('a device is auto, cpu, cuda or cuda:N', () => {
  for (const text of ['auto', 'cpu', 'cuda', 'cuda:0', 'cuda:13']) expect(device(text)).toBe(text);
  for (const text of ['gpu', 'CUDA', 'cuda:', 'cuda:-1', 'cuda:a', 'cpu:0', '']) {
    expect(() => device(text)).toThrow(`Expected auto, cpu, cuda or cuda:N, got "${text}".`);
  }
});

it('a cache budget is GiB by tier, or none', () => {
  expect(cacheBudget('none')).toBe('none');
  expect(cacheBudget('host=1')).toEqual({ host: 2 ** 30 });
  expect(cacheBudget('device=0.5, host=16,disk=100')).toEqual({ device: 2 ** 29, host: 2 ** 34, disk: 100 * 2 ** 30 });
  for (const text of [
    '',
    '8',
    'host',
    'host=',
    'host=-1',
    'host=1e3',
    'ram=1',
    'host=1,host=2',
    'host=1;disk=2',
    'NONE',
    `host=${'9'.repeat(400)}`,
    'disk=1048577',
  ]) {
    expect(() => cacheBudget(text)).toThrow(`got "${text}".`);
  }
});

it('exit codes: 2 for what the user said wrong, 130 for an interruption, 1 for all else', () => {
  expect(EXIT).toEqual({ done: 0, failed: 1, usage: 2, interrupted: 130 });
  expect(exitCodeOf(new UsageError('x'))).toBe(2);
  expect(exitCodeOf(new RecipeError('x'))).toBe(2);
  expect(exitCodeOf(new DataError('DATA_ARGUMENT', 'x'))).toBe(2);
  expect(exitCodeOf(new DataError('DATA_NOT_FOUND', 'x'))).toBe(1);
  expect(exitCodeOf(new RunDirectoryError('x'))).toBe(1);
  expect(exitCodeOf(new FeatureCacheError('CACHE_BUDGET', 'x'))).toBe(2);
  expect(exitCodeOf(new FeatureCacheError('CACHE_FILE', 'x'))).toBe(1);
  const at = { layer: 0, epoch: 0, step: 0, learningRate: 1, loss: Number.NaN };
  expect(exitCodeOf(new NonFiniteLossError(at, null))).toBe(1);
  expect(exitCodeOf(new TrainingInterrupted('x'))).toBe(130);
  expect(exitCodeOf(new Error('x'))).toBe(1);
  expect(exitCodeOf('x')).toBe(1);
  expect(exitCodeOf(null)).toBe(1);
});

it('an error with a code speaks for itself; of any other the stack is shown', () => {
  expect(messageOf(new RecipeError('seed: no'))).toBe('layerwise: seed: no');
  expect(messageOf(new Error('surprise'))).toContain('options.test.ts');
  expect(messageOf('text')).toBe('text');
});
