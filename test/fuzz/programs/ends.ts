// Cases that end otherwise than with a result or a typed error, for the test of the program that runs them.
import type { Fuzzed } from '../fuzzed.js';

const mortal: Fuzzed = {
  name: 'mortal',
  runCase({ number }) {
    if (number === 2) throw new Error('of no typed error');
    if (number === 4) process.kill(process.pid, 'SIGKILL');
    if (number === 6) process.exit(7);
  },
};

const endless: Fuzzed = {
  name: 'endless',
  runCase() {
    for (;;);
  },
};

export const formats: readonly Fuzzed[] = [mortal, endless];
