import { expect, it } from 'vitest';
import * as library from '../../lib/index.js';
import { fromSent, SENT_CLASSES, toSend } from '../../lib/service/sent-error.js';

const sent = (error: unknown): Error & Record<string, unknown> => fromSent(structuredClone(toSend(error)));

it('every public error class is one that errors have again after their way between threads', () => {
  const names = Object.entries(library)
    .filter(([, value]) => typeof value === 'function' && value.prototype instanceof Error)
    .map(([name]) => name);
  // The base, which nothing is an instance of alone, and what the way itself ends in.
  const expected = names.filter((name) => !['LayerwiseError', 'TrainingJobError', 'PredictorError'].includes(name));
  expect(SENT_CLASSES.map(({ name }) => name)).toEqual(expect.arrayContaining(expected));
  expect(expected.length).toBeGreaterThan(15);
});

it('an error keeps class, code, message, stack and fields', () => {
  const at = { layer: 1, device: 'cpu', batchSize: 8, peakBytes: 10, fittingBatchSize: null };
  const error = new library.OutOfMemoryError(at, new TypeError('deep'));
  const back = sent(error);
  expect(back).toBeInstanceOf(library.OutOfMemoryError);
  expect(back).toBeInstanceOf(library.LayerwiseError);
  expect(back).toMatchObject({ name: 'OutOfMemoryError', code: 'OUT_OF_MEMORY', message: error.message, at });
  expect(back.stack).toBe(error.stack);
  expect(back.cause).toMatchObject({ name: 'TypeError', message: 'deep' });
});

it('errors of other classes, values that are none, and what cannot be cloned pass as far as they can', () => {
  const odd = Object.assign(new RangeError('odd'), { code: 'E', call: () => 0 });
  expect(sent(odd)).toMatchObject({ name: 'RangeError', message: 'odd', code: 'E' });
  expect(sent(odd)).not.toHaveProperty('call');
  expect(sent('text')).toMatchObject({ name: 'Error', message: 'text' });
  const own: Error & { cause?: unknown } = new Error('its own cause');
  own.cause = own;
  expect(sent(own).message).toBe('its own cause');
});
