// Which decoder a run's JPEG files were read by: others give pixels that differ by rounding.
import { type Dataset, datasetOf, type JpegDecoder, jpegDecoder } from '../data/index.js';
import type { RunConfig } from './record.js';

/** What the record of a run says of its decoder; empty where no images are decoded for it. */
export async function decoderOfRun(dataset: Dataset): Promise<{ jpeg?: string }> {
  return mayDecode(dataset) ? { jpeg: shown(await jpegDecoder()) } : {};
}

/** What is decoded now, as it is to be recorded. */
export interface CheckedDecoder {
  readonly versions: RunConfig['versions'];
  /** For people: that the decoder is another; null where it is the same, or not known. */
  readonly change: string | null;
}

/** Compares the decoder with the one in the record of a run. */
export async function checkDecoder({ versions }: RunConfig): Promise<CheckedDecoder> {
  const { jpeg } = versions;
  // Runs of older versions do not say.
  if (jpeg === undefined) return { versions, change: null };
  const decoder = await jpegDecoder();
  if (jpeg === decoder.name || jpeg.startsWith(`${decoder.name} (`)) return { versions, change: null };
  const now = shown(decoder);
  return { versions: { ...versions, jpeg: now }, change: `JPEG files were decoded by ${jpeg}, and now are by ${now}` };
}

/** Files, or encoded images of a caller's own: vectors and a source's images come as they are. */
const mayDecode = ({ name, train }: Dataset): boolean =>
  datasetOf(name).hasImageFiles && !('vectors' in train) && !('source' in train);

const shown = ({ name, origin }: JpegDecoder): string => (origin === null ? name : `${name} (${origin})`);
