import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Small files in CIFAR-10's two layouts: image i of batch b has label (b + i) % 10, its byte p is (37 b + 11 i + p) % 251. */
export const BATCHES = ['data_batch_1', 'data_batch_2', 'data_batch_3', 'data_batch_4', 'data_batch_5', 'test_batch'];
export const IMAGE_LENGTH = 3072;

export const labelOf = (batch: number, image: number) => (batch + image) % 10;
export const pixelsOf = (batch: number, image: number) =>
  Uint8Array.from({ length: IMAGE_LENGTH }, (_, p) => (37 * batch + 11 * image + p) % 251);

export async function writeBinary(folder: string, records: number): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const [batch, name] of BATCHES.entries()) {
    const parts = Array.from({ length: records }, (_, i) => [Uint8Array.of(labelOf(batch, i)), pixelsOf(batch, i)]);
    await writeFile(join(folder, `${name}.bin`), Buffer.concat(parts.flat()));
  }
  const names = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'];
  await writeFile(join(folder, 'batches.meta.txt'), `${names.join('\n')}\n\n`);
}

export async function writePython(folder: string, records: number): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const [batch, name] of BATCHES.entries()) {
    const labels = Array.from({ length: records }, (_, i) => labelOf(batch, i));
    const rows = labels.map((_, i) => pixelsOf(batch, i));
    await writeFile(join(folder, name), pickleBatch({ labels, data: Buffer.concat(rows), records }));
  }
}

export interface PickledBatch {
  labels: readonly number[];
  data: Uint8Array;
  records: number;
  dtype?: string;
}

/** The opcodes that Python 2's cPickle wrote for the official files, in their order. */
export function pickleBatch({ labels, data, records, dtype = 'u1' }: PickledBatch): Buffer {
  const short = (text: string) => Buffer.concat([Buffer.from([0x55, text.length]), Buffer.from(text, 'latin1')]);
  const uint16 = (value: number) => Buffer.from([0x4d, value & 255, value >> 8]);
  const global = (module: string, name: string) => Buffer.from(`c${module}\n${name}\n`);
  const put = (slot: number) => Buffer.from([0x71, slot]);
  const long = Buffer.alloc(5);
  long[0] = 0x54;
  long.writeInt32LE(data.length, 1);
  const array = [
    ...[global('numpy.core.multiarray', '_reconstruct'), put(5), global('numpy', 'ndarray'), put(6)],
    ...[
      Buffer.from('K\x00\x85', 'latin1'),
      put(7),
      short('b'),
      Buffer.from('\x87', 'latin1'),
      put(8),
      Buffer.from('R'),
    ],
    ...[put(9), Buffer.from('(K\x01', 'latin1'), uint16(records), uint16(IMAGE_LENGTH), Buffer.from('\x86', 'latin1')],
    ...[put(10), global('numpy', 'dtype'), put(11), short(dtype), Buffer.from('K\x00K\x01\x87', 'latin1'), put(12)],
    ...[
      Buffer.from('R'),
      put(13),
      Buffer.from('(K\x03', 'latin1'),
      short('|'),
      Buffer.from('NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t', 'latin1'),
    ],
    ...[put(14), Buffer.from('b\x89', 'latin1'), long, data, Buffer.from('t'), put(15), Buffer.from('b')],
  ];
  return Buffer.concat([
    ...[Buffer.from('\x80\x02}', 'latin1'), put(1), Buffer.from('('), short('batch_label'), put(2), short('a batch')],
    ...[put(3), short('labels'), put(4), Buffer.from(']('), Buffer.from(labels.flatMap((label) => [0x4b, label]))],
    ...[
      Buffer.from('e'),
      short('data'),
      ...array,
      short('filenames'),
      Buffer.from(']('),
      short('a.png'),
      Buffer.from('eu.'),
    ],
  ]);
}
