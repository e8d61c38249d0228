// What JPEG files are decoded with, as the record of a run names it.
import { releaseOfTurboJpeg } from '#scripts/support/turbojpeg.mjs';
import { findTurboJpeg, type TurboJpeg } from '../tensor/index.js';

/** What decodes JPEG files: `libjpeg-turbo` or `sharp`, and its release. Another may give other pixels. */
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
  return { name: `libjpeg-turbo ${release}`, origin: ORIGINS[library.origin] };
}
