// All that is fuzzed, in the suite and by `npm run fuzz`.

import { batchNorm } from './batch-norm.js';
import { creation } from './creation.js';
import { damagedFiles, type Fuzzed } from './fuzzed.js';
import { jpeg, png } from './images.js';
import { decodedJpeg } from './jpeg-decoding.js';
import { operators } from './operators.js';
import { optimizers } from './optimizers.js';
import { pickle } from './pickle.js';
import { damagedRunFile, runFiles } from './run-files.js';
import { safetensors } from './safetensors.js';
import { shardIndex } from './shard-index.js';

export const formats: readonly Fuzzed[] = [
  ...[operators, creation, optimizers, batchNorm, decodedJpeg(), shardIndex],
  ...[jpeg, png, safetensors, pickle].map(damagedFiles),
  ...runFiles.map(damagedRunFile),
];
