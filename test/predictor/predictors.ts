// What tests of predictors share. A worker is started from the built file, so the predictor is the built one.
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { afterEach } from 'vitest';
import type { Classification, ImagePixels, Predictor as PredictorType } from '../../lib/predictor/index.js';

export const LIBRARY = pathToFileURL(join(import.meta.dirname, '..', '..', 'dist', 'index.js')).href;
export const library = (await import(LIBRARY)) as typeof import('../../lib/index.js');
export const { Predictor, PredictorError } = library;

const opened = new Set<PredictorType>();

/** Closed after the test. */
export async function open(...args: Parameters<typeof Predictor.open>): Promise<PredictorType> {
  const predictor = await Predictor.open(...args);
  opened.add(predictor);
  return predictor;
}

export function closeAfterEachTest(): void {
  afterEach(async () => {
    await Promise.all([...opened].map((predictor) => predictor.close()));
    opened.clear();
  });
}

/** Different images of 3 x 32 x 32. */
export const image = (seed: number): ImagePixels => ({
  pixels: Uint8Array.from({ length: 3 * 32 * 32 }, (_, i) => (Math.imul(i + 1, 2654435761 + 97 * seed) >>> 11) & 255),
  imageShape: [3, 32, 32],
});

/**
 * Calls that `make` has made, whose batch is being computed: their answers are not taken before the caller next waits. Where they
 * were answered before that was seen, others are made.
 */
export async function computing<T extends readonly Promise<Classification>[]>(
  predictor: PredictorType,
  make: () => T,
): Promise<{ calls: T }> {
  for (;;) {
    const calls = make();
    let isAnswered = false;
    void Promise.allSettled(calls).then(() => {
      isAnswered = true;
    });
    while (predictor.statistics.running === 0 && !isAnswered) await setImmediate();
    if (predictor.statistics.running > 0) return { calls };
  }
}
