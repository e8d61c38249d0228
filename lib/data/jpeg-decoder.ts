// What JPEG files are decoded with, as the record of a run names it.
import { jpegScaling, releaseOfTurboJpeg } from '#scripts/support/turbojpeg.mjs';
import { findTurboJpeg, type TurboJpeg } from '../tensor/index.js';

/**
 * What decodes JPEG files: `libjpeg-turbo` or `sharp`, its release, and whether large images are not decoded smaller. Another may give
 * other pixels.
 */
export interface JpegDecoder {
  readonly name: string;
  /** For people: where it is from; null for sharp, which is a dependency. */
  readonly origin: string | null;
}

const ORIGINS: Readonly<Record<TurboJpeg['origin'], string>> = {
  LAYERWISE_TURBOJPEG: 'by LAYERWISE_TURBOJPEG',
  package: 'platform package',
  development: 'development package',
  cache: 'fetched by set-up',
  system: 'of the system',
};

/** The decoder of this process. Throws TensorError as `findTurboJpeg` does. */
export async function jpegDecoder(): Promise<JpegDecoder> {
  const library = findTurboJpeg();
  if (library === null) {
    const { default: sharp } = await import('sharp');
    return { name: `sharp ${sharp.versions.sharp}`, origin: null };
  }
  const release = releaseOfTurboJpeg(library.path) ?? 'of unknown release';
  const size = jpegScaling().isOn ? '' : ', all pixels';
  return { name: `libjpeg-turbo ${release}${size}`, origin: ORIGINS[library.origin] };
}
