// What the programs of this folder share: the rank that JOIN says, and what it tells the test.
import { DistributedError, joinGroup } from '../../../dist/distributed/index.js';

export const options = JSON.parse(process.env.JOIN ?? '{}');

export const join = () => joinGroup(options);

export const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What an error says, for a test to compare. */
export const told = (error) => {
  if (!(error instanceof DistributedError)) return { name: error.name, message: error.message };
  const { name, code, rank, worldSize, operation, missing, message } = error;
  return { name, code, rank, worldSize, operation, missing, message };
};
