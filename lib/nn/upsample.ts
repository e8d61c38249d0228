import type { Tensor } from '../tensor/index.js';
import { ModuleError } from './errors.js';
import { bothOf, checkBooleans, checkPairs, optionsOf, type Pair, refuse } from './layer-options.js';
import { Module } from './module.js';
import { declareTraits } from './traits.js';

const MODES = ['nearest', 'bilinear'] as const;

/**
 * [batch, channels, height, width] at another size; names and defaults of torch.nn.Upsample. Either `size` or `scaleFactor` is
 * given. Throws ModuleError for both or neither, and for `alignCorners` with `nearest`, where it has no meaning.
 */
export class Upsample extends Module {
  readonly #size: Pair | null;
  readonly #scaleFactor: Pair | null;
  readonly #mode: (typeof MODES)[number];
  readonly #alignCorners: boolean;

  constructor(options: {
    size?: Pair;
    /** Above 0; a fraction of a pixel is left out. */
    scaleFactor?: Pair;
    /** Default: nearest. */
    mode?: (typeof MODES)[number];
    /** Whether the corners' centres are those of the input, or the corners themselves. Default: false, the corners themselves. */
    alignCorners?: boolean;
  }) {
    super();
    const {
      size,
      scaleFactor,
      mode = 'nearest',
      alignCorners,
    } = optionsOf('Upsample', options, ['size', 'scaleFactor', 'mode', 'alignCorners']);
    if ((size === undefined) === (scaleFactor === undefined)) {
      const got = size === undefined ? 'neither' : 'both';
      throw new ModuleError(`Upsample: expected either size or scaleFactor, got ${got}`);
    }
    if (size !== undefined) checkPairs('Upsample', { size });
    if (scaleFactor !== undefined) checkScale(scaleFactor);
    if (!MODES.includes(mode)) refuse('Upsample', `one of ${MODES.join(', ')}`, 'mode', mode);
    if (alignCorners !== undefined) {
      checkBooleans('Upsample', { alignCorners });
      if (mode === 'nearest') refuse('Upsample', 'none with mode nearest', 'alignCorners', alignCorners);
    }
    this.#size = size ?? null;
    this.#scaleFactor = scaleFactor ?? null;
    this.#mode = mode;
    this.#alignCorners = alignCorners ?? false;
  }

  forward(input: Tensor): Tensor {
    const [scaleHeight, scaleWidth] = this.#scaleFactor === null ? [0, 0] : bothOf(this.#scaleFactor);
    const [height, width] = input.shape.slice(-2) as [number, number];
    const outputSize = this.#size ?? ([Math.floor(height * scaleHeight), Math.floor(width * scaleWidth)] as const);
    return this.#mode === 'nearest'
      ? input.upsampleNearest2d(outputSize, { scaleHeight, scaleWidth })
      : input.upsampleBilinear2d(outputSize, { alignCorners: this.#alignCorners, scaleHeight, scaleWidth });
  }
}

function checkScale(scaleFactor: Pair): void {
  const isScale = (value: unknown): boolean => Number.isFinite(value) && (value as number) > 0;
  const values: readonly unknown[] = Array.isArray(scaleFactor) ? scaleFactor : [scaleFactor];
  if (values.every(isScale) && (values.length === 2 || !Array.isArray(scaleFactor))) return;
  refuse('Upsample', 'a number above 0 or [height, width] of such', 'scaleFactor', scaleFactor);
}

declareTraits(Upsample, { allocates: true, fixed: true });
