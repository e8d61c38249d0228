import type { TrainingProtocol } from './declaration.js';

/**
 * Paper, section 4.1 and appendix: zero-pad 4 and crop, mirror; 0.1, times 0.2 at 15, 30, 45; 50 epochs a layer; batch 128;
 * weight decay 5e-4. Of all small images.
 */
export const SMALL_IMAGE_PROTOCOL: TrainingProtocol = {
  imageSize: 32,
  testResize: null,
  augmentation: { cropPadding: 4, randomResizedCrop: false, horizontalFlip: true },
  training: {
    epochs: 50,
    batchSize: 128,
    learningRate: 0.1,
    milestones: [15, 30, 45],
    decay: 0.2,
    momentum: 0.9,
    weightDecay: 5e-4,
  },
  evaluation: { batchSize: 500, ensemble: 'logits' },
};
