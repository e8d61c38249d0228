// Images of one's own in an SQLite file, read through an async iterable: npm run example -- own-data
import { existsSync, mkdirSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import * as lw from 'layerwise';
import sqlite from 'node-sqlite3-wasm';
import sharp from 'sharp';
import { isProgram, trainModule } from './support/own-module.js';

const DEFAULT_FILE = 'runs/images.sqlite';

/** Classes and images of a file, `{"file": PATH}` in dataset.options. Each image is asked for once, and decoded as it comes. */
export const data: lw.DataBuilder = ({ options: { file = DEFAULT_FILE } }) => {
  const path = String(file);
  return {
    title: basename(path),
    classes: classesOf(path),
    train: imagesOf(path, 'train'),
    test: imagesOf(path, 'test'),
  };
};

async function* imagesOf(path: string, part: string): AsyncGenerator<lw.EncodedImage> {
  const database = opened(path);
  const statement = database.prepare('SELECT image, label FROM images WHERE part = ? ORDER BY id');
  try {
    for (const { image, label } of statement.iterate(part)) {
      yield { image: image as Uint8Array, label: Number(label) };
    }
  } finally {
    statement.finalize();
    database.close();
  }
}

function classesOf(path: string): string[] {
  const database = opened(path);
  try {
    return database.all('SELECT name FROM classes ORDER BY label').map(({ name }) => String(name));
  } finally {
    database.close();
  }
}

const opened = (path: string): sqlite.Database => new sqlite.Database(path, { readOnly: true, fileMustExist: true });

const CLASSES = ['disc', 'ring', 'bars'];

/** A bright figure of any colour on a dark ground, 40 x 30 pixels, as a JPEG file has it. */
function draw(label: number, random: (from: number, below: number) => number): Promise<Buffer> {
  const colour = (light: number): string => `hsl(${random(0, 360)} 80% ${light}%)`;
  const [x, y, size] = [random(12, 28), random(12, 18), random(7, 12)];
  const circle = `<circle cx="${x}" cy="${y}" r="${size}"`;
  const bars = [0, 1, 2].map(
    (i) => `<rect x="${x - size + i * size * 0.75}" y="${y - size}" width="3" height="${2 * size}"/>`,
  );
  const figure = [`${circle}/>`, `${circle} fill="none" stroke-width="3"/>`, bars.join('')][label]!;
  const paint = colour(70);
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"><rect width="40" height="30" fill="${colour(20)}"/><g fill="${paint}" stroke="${label === 1 ? paint : 'none'}">${figure}</g></svg>`;
  return sharp(Buffer.from(svg)).jpeg().toBuffer();
}

/** A file to begin with. */
async function makeFile(path: string): Promise<void> {
  let state = 1;
  const random = (from: number, below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return from + Math.floor((state / 2 ** 32) * (below - from));
  };
  mkdirSync(dirname(path), { recursive: true });
  const database = new sqlite.Database(path);
  database.exec('CREATE TABLE classes (label INTEGER PRIMARY KEY, name TEXT NOT NULL)');
  database.exec(
    'CREATE TABLE images (id INTEGER PRIMARY KEY, part TEXT NOT NULL, image BLOB NOT NULL, label INTEGER NOT NULL)',
  );
  for (const [label, name] of CLASSES.entries()) {
    database.run('INSERT INTO classes (label, name) VALUES (?, ?)', [label, name]);
  }
  const addImage = database.prepare('INSERT INTO images (part, image, label) VALUES (?, ?, ?)');
  for (let i = 0; i < 1_500; i++) {
    const label = i % CLASSES.length;
    addImage.run([i < 1_200 ? 'train' : 'test', await draw(label, random), label]);
  }
  addImage.finalize();
  database.close();
}

// As a module this file gives data, and does no more.
if (isProgram(import.meta.url)) {
  if (!existsSync(DEFAULT_FILE)) await makeFile(DEFAULT_FILE);
  const preset = lw.presetRecipe('vgg11-layerwise', { dataset: 'own', onCuda: false });
  const recipe = lw.overrideRecipe(preset, {
    model: { width: 8, layers: 3 },
    training: { epochs: 5, batchSize: 32, learningRate: 0.05, milestones: [4] },
  });
  await trainModule(import.meta.url, recipe, { leastTop1: 80 });
}
