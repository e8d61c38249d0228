import { type DecodeOptions, decodeToTheEnd, withUpright } from './image-file.js';

export interface SmallerJpegOptions extends DecodeOptions {
  /** Pixels of the shorter side, at most. */
  readonly side: number;
  /** Of JPEG, 1 to 100. */
  readonly quality: number;
}

export interface SmallerJpeg {
  readonly jpeg: Uint8Array;
  /** Whether it is the given file, byte for byte. */
  readonly isTaken: boolean;
}

/**
 * A JPEG file of an image whose shorter side is at most `side`: upright, scaled (antialiased bilinear), without transparency and
 * metadata, in colours or grey. A JPEG file that is no larger and stands upright stays as it is. The image is decoded to its end in
 * any case; messages call it `name`. Throws as `readImage` does.
 */
export function smallerJpeg(
  name: string,
  bytes: Uint8Array,
  { side, quality, maxPixels }: SmallerJpegOptions,
): Promise<SmallerJpeg> {
  return withUpright(name, bytes, maxPixels, async (image, header) => {
    const { width, height, format, isUpright, isGrey, hasAlpha } = header;
    const shorter = Math.min(width, height);
    if (shorter <= side && format === 'jpeg' && isUpright) {
      await decodeToTheEnd(image);
      return { jpeg: bytes, isTaken: true };
    }
    // As torchvision rounds.
    const scaled = (length: number): number => (length === shorter ? side : Math.floor((side * length) / shorter));
    const small =
      shorter <= side ? image : image.resize(scaled(width), scaled(height), { fit: 'fill', kernel: 'linear' });
    const colours = isGrey && !hasAlpha ? 'b-w' : 'srgb';
    const jpeg = await small.removeAlpha().toColourspace(colours).jpeg({ quality }).toBuffer();
    return { jpeg, isTaken: false };
  });
}
