// node bench/cifar10-fast/write-filters.mjs DIR: whitening-filters.json, of the first 5,000 training images; DIR holds cifar-10-batches-bin.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { trainingImages } from './images.mjs';
import { whiteningFilters } from './whitening.mjs';

const images = trainingImages(join(process.argv[2] ?? '', 'cifar-10-batches-bin'), { train: 5_000 });
const filters = whiteningFilters(images.train, 2, 5e-4);
const values = Array.from(filters.toFloat32Array(), (value) => Number(value.toFixed(5)));
writeFileSync(new URL('whitening-filters.json', import.meta.url), `${JSON.stringify(values.slice(0, 144))}\n`);
