// Figures for Prometheus.
import { expect, it } from 'vitest';
import { ServerMetrics } from '../../lib/server/metrics.js';
import type { TrainingEvent } from '../../lib/training/index.js';
import { temporaryFolder } from '../training/runs.js';
import { picture, serviceOf, tiny } from './services.js';

const at = temporaryFolder();

/** The samples of a text, by name and labels. */
function samplesOf(text: string): Map<string, number> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

it('are those of the last epoch of each layer, and of the images that were classified', async () => {
  const client = await serviceOf(at('runs'));
  await client.finish('one', { recipe: { ...tiny, training: { ...tiny.training, epochs: 2 } } });
  for (let i = 0; i < 3; i++) await client.classify('one', await picture().png().toBuffer());
  const { headers, body } = await client.get('/metrics');
  expect(headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/);
  expect(body).not.toContain(at('runs'));
  const samples = samplesOf(body);
  const { epochs } = (await client.get('/runs/one')).body;
  const last = epochs.filter(({ epoch }: { epoch: number }) => epoch === 1);
  expect(last).toHaveLength(2);
  for (const { layer, testTop1, testLoss, ensembleTop1 } of last) {
    const labels = `{run="one",layer="${layer + 1}"}`;
    expect(samples.get(`layerwise_test_top1_percent${labels}`)).toBe(testTop1);
    expect(samples.get(`layerwise_test_loss${labels}`)).toBe(testLoss);
    if (ensembleTop1 !== null) expect(samples.get(`layerwise_ensemble_top1_percent${labels}`)).toBe(ensembleTop1);
    expect(samples.get(`layerwise_training_images_per_second${labels}`)).toBeGreaterThan(0);
    expect(samples.get(`layerwise_training_loss${labels}`)).toBeGreaterThan(0);
  }
  expect(samples.get('layerwise_runs{state="finished"}')).toBe(1);
  expect(samples.get('layerwise_runs{state="queued"}')).toBe(0);
  expect(samples.get('layerwise_classified_images_total{run="one"}')).toBe(3);
  expect(samples.get('layerwise_classify_seconds_count{run="one"}')).toBe(3);
  expect(samples.get('layerwise_classify_waiting{run="one"}')).toBe(0);
  expect(samples.get('process_resident_memory_bytes')).toBeGreaterThan(2 ** 20);
});

it('are told of the 100 runs that something has happened to last', async () => {
  const metrics = new ServerMetrics();
  const step = (layer: number): TrainingEvent => ({
    ...{ type: 'step', layer, epoch: 0, step: 1, stepsPerEpoch: 1, loss: 1, top1: 1 },
    ...{ imagesPerSecond: 1, stepsDone: 1, stepsTotal: 1 },
  });
  for (let run = 0; run < 150; run++) {
    for (const layer of [0, 1]) metrics.take(`run-${run}`, step(layer));
    metrics.classified(`run-${run}`, 0.1);
    metrics.take('steady', step(0));
  }
  const text = await metrics.text();
  const told = new Set([...text.matchAll(/run="([^"]+)"/g)].map(([, run]) => run));
  const expected = ['steady', ...Array.from({ length: 99 }, (_, i) => `run-${i + 51}`)];
  expect([...told].sort()).toEqual(expected.sort());
});
