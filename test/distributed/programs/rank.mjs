// What the programs of this folder share: the rank that JOIN says, and what it tells the test.
import { DistributedError, joinGroup } from '../../../dist/distributed/index.js';

/** @type {import('../../../dist/distributed/index.js').JoinOptions} */
export const options = JSON.parse(process.env.JOIN ?? '{}');

export const join = () => joinGroup(options);

/** @param {unknown} value */
export const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

/** @param {number} ms */
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * What an error says, for a test to compare.
 * @param {unknown} error
 */
export const told = (error) => {
  if (!(error instanceof DistributedError)) return { name: 'another', message: String(error) };
  const { name, code, rank, worldSize, operation, missing, message } = error;
  return { name, code, rank, worldSize, operation, missing, message };
};
