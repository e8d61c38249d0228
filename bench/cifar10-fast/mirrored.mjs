// node bench/cifar10-fast/mirrored.mjs RUN
//
// What a finished run on held-out.mjs gains by mirror images: top-1 of the images that it was tested on, by the logits of an image, and
// by the sum of those of the image and of its mirror image. A line of JSON a layer.
import * as lw from 'layerwise';

const BATCH = 500;
const code = new URL('held-out.mjs', import.meta.url);
const run = await lw.TrainedRun.open(process.argv[2] ?? '', { data: code });
lw.setThreads(1);
const { test } = await run.loadDataset();
const images = lw.openImages(test, { device: 'cpu' });
for (let layer = 0; layer < run.layers; layer++) {
  let [plain, mirrored] = [0, 0];
  for await (const batch of images.batches(BATCH)) {
    lw.scope(() => {
      const { images: shown, labels } = batch.tensors();
      /** @param {lw.Tensor} logits */
      const hits = (logits) => logits.argmax({ dim: 1 }).eq(labels).sum().item();
      const logits = run.logits(shown, layer);
      plain += hits(logits);
      mirrored += hits(logits.add(run.logits(shown.flip([3]), layer)));
    });
  }
  console.log(JSON.stringify({ layer: layer + 1, images: images.count, plain, mirrored }));
}
images.dispose();
run.dispose();
