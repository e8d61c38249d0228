// What clients of a service upload, each with the answer that it must have.
import sharp from 'sharp';

/** Of a service that takes at most so much. */
export const MOST_UPLOAD_BYTES = 2 ** 21;

/**
 * `status` and, of a refusal, `code` of the answer. The classes of a good image are those of the first time that it was sent.
 * @typedef {{ name: string, type: string, body: Buffer, status: number, code: string | null }} Upload
 */

/**
 * An image of coloured noise, which a coder cannot make small.
 * @param {{ width: number, height: number, grey?: boolean }} shape
 */
function drawn({ width, height, grey = false }) {
  const noise = { type: /** @type {const} */ ('gaussian'), mean: 128, sigma: 60 };
  const image = sharp({ create: { width, height, channels: 3, background: 'black', noise } });
  return grey ? image.greyscale() : image;
}

/** @returns {Promise<Upload[]>} */
async function goodImages() {
  const shapes = [
    { width: 32, height: 32 },
    { width: 31, height: 47 },
    { width: 640, height: 480 },
    { width: 1, height: 200 },
    { width: 90, height: 60, grey: true },
  ];
  const images = shapes.flatMap((shape) => [
    { name: `jpeg ${shape.width}x${shape.height}`, type: 'image/jpeg', image: drawn(shape).jpeg() },
    { name: `png ${shape.width}x${shape.height}`, type: 'image/png', image: drawn(shape).png() },
    {
      name: `progressive ${shape.width}x${shape.height}`,
      type: 'image/jpeg',
      image: drawn(shape).jpeg({ progressive: true }),
    },
  ]);
  return Promise.all(
    images.map(async ({ image, ...rest }) => ({ ...rest, body: await image.toBuffer(), status: 200, code: null })),
  );
}

/** A JPEG file whose header says that it has 60,000 x 60,000 pixels. */
function huge(/** @type {Buffer} */ jpeg) {
  const file = Buffer.from(jpeg);
  const frame = file.indexOf(Buffer.of(0xff, 0xc0));
  file.writeUInt16BE(60_000, frame + 5);
  file.writeUInt16BE(60_000, frame + 7);
  return file;
}

/** @returns {Promise<Upload[]>} */
export async function uploads() {
  const good = await goodImages();
  const jpeg = await drawn({ width: 200, height: 200 }).jpeg().toBuffer();
  const png = await drawn({ width: 200, height: 200 }).png().toBuffer();
  /**
   * @param {string} name
   * @param {Buffer} body
   * @param {{ status?: number, code?: string, type?: string }} [answer]
   * @returns {Upload}
   */
  const bad = (name, body, { status = 422, code = 'DATA_CORRUPT', type = 'image/jpeg' } = {}) => ({
    ...{ name, type, body, status, code },
  });
  return [
    ...good,
    bad('half a jpeg', jpeg.subarray(0, jpeg.length / 2)),
    bad('half a png', png.subarray(0, png.length / 2), { type: 'image/png' }),
    bad('zeros', Buffer.alloc(5000)),
    bad('a page', Buffer.from('<!doctype html><p>Not found</p>')),
    bad('a gif', await drawn({ width: 20, height: 20 }).gif().toBuffer(), { code: 'DATA_UNSUPPORTED' }),
    bad('too many pixels', huge(jpeg), { code: 'DATA_UNSUPPORTED' }),
    bad('nothing', Buffer.alloc(0), { status: 400, code: 'IMAGE' }),
    bad('another type', jpeg, { status: 415, code: 'FST_ERR_CTP_INVALID_MEDIA_TYPE', type: 'text/plain' }),
    bad('too many bytes', Buffer.alloc(MOST_UPLOAD_BYTES + 1), { status: 413, code: 'FST_ERR_CTP_BODY_TOO_LARGE' }),
  ];
}
