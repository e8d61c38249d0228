// All that is fuzzed, in the suite and by `npm run fuzz`.

import { batchNorm } from './batch-norm.js';
import { creation } from './creation.js';
import type { Fuzzed } from './fuzzed.js';
import { operators } from './operators.js';
import { optimizers } from './optimizers.js';

export const formats: readonly Fuzzed[] = [operators, creation, optimizers, batchNorm];
