// Files that people take for safetensors files: their formats, and how to convert their weights.
import { type ReadableFile, readRegion } from '../files.js';

/** Bytes that are looked at, of the beginning and, where a zip archive lists its files, of the end. */
const HEAD_BYTES = 1024;
const TAIL_BYTES = 64 * 1024;

/** Python's names in what follows: `source` and `target` are string literals. */
interface Paths {
  readonly source: string;
  readonly target: string;
}

/**
 * Describes a file that is not in the safetensors format, with the Python lines that convert it; null where its beginning is of
 * no known format.
 */
export async function describeOtherFormat(handle: ReadableFile, file: string, size: number): Promise<string | null> {
  if (size === 0) return null;
  const head = await readText(handle, 0, Math.min(size, HEAD_BYTES));
  const stem = file.replace(/\.[^./\\]*$/, '');
  // Python must not write over what it reads: a checkpoint has more in it than weights.
  const target = /\.safetensors$/i.test(file) ? `${stem}.converted.safetensors` : `${stem}.safetensors`;
  const paths = { source: JSON.stringify(file), target: JSON.stringify(target) };
  if (head.startsWith('PK\x03\x04')) {
    const start = Math.max(0, size - TAIL_BYTES);
    return describeZip(head + (await readText(handle, start, size - start)), paths);
  }
  return describePickle(head, paths) ?? describeText(head, paths) ?? describeBinary(head, paths);
}

async function readText(handle: ReadableFile, start: number, length: number): Promise<string> {
  const bytes = Buffer.alloc(length);
  const got = await readRegion(handle, bytes, start);
  return bytes.toString('latin1', 0, got);
}

/** Whether a byte of `head` is one of those from `least` to `most`. */
const inRange = (head: string, at: number, least: number, most: number): boolean =>
  head.charCodeAt(at) >= least && head.charCodeAt(at) <= most;

const converted = (what: string, lines: readonly string[]): string =>
  `${what}; convert it with Python:\n${lines.map((line) => `    ${line}`).join('\n')}`;

/** The names of a zip archive's files stand in it as they are. */
function describeZip(names: string, { source, target }: Paths): string {
  if (names.includes('constants.pkl')) {
    return converted('a TorchScript archive (torch.jit.save)', [
      'import torch',
      'from safetensors.torch import save_file',
      `weights = torch.jit.load(${source}, map_location="cpu").state_dict()`,
      `save_file({name: value.contiguous().clone() for name, value in weights.items()}, ${target})`,
    ]);
  }
  if (names.includes('data.pkl')) return converted('a file of torch.save', torchLines({ source, target }));
  if (names.includes('.npy')) {
    return converted('a NumPy archive (.npz)', [
      'import numpy',
      'from safetensors.numpy import save_file',
      `save_file(dict(numpy.load(${source})), ${target})`,
    ]);
  }
  return 'a zip archive; unpack it and give the safetensors file in it';
}

/** A training script's checkpoint often holds the state dict under one of two names. */
const torchLines = ({ source, target }: Paths): string[] => [
  'import torch',
  'from safetensors.torch import save_file',
  `weights = torch.load(${source}, map_location="cpu", weights_only=True)`,
  'weights = weights.get("state_dict", weights.get("model", weights))',
  `save_file({name: value.contiguous().clone() for name, value in weights.items()}, ${target})`,
];

/** The number that torch.save began its files with before release 1.6, as protocol 2 pickles it. */
const TORCH_MAGIC = '\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19';

function describePickle(head: string, paths: Paths): string | null {
  if (head.startsWith(TORCH_MAGIC)) return converted('a file of torch.save before PyTorch 1.6', torchLines(paths));
  const isPickle = head.startsWith('\x80') && inRange(head, 1, 2, 5);
  return isPickle ? converted('a Python pickle', torchLines(paths)) : null;
}

function describeText(head: string, { source, target }: Paths): string | null {
  if (head.startsWith('version https://git-lfs.github.com/spec/')) {
    const bytes = /^size (\d+)$/m.exec(head)?.[1];
    return `a pointer of Git LFS${bytes === undefined ? '' : ` to a file of ${bytes} bytes`}; get the file itself with: git lfs pull`;
  }
  const text = head.replace(/^\xef\xbb\xbf/, '').trimStart();
  if (/^<(!doctype html|html)/i.test(text)) {
    const title = /<title[^>]*>\s*([^<]*?)\s*</i.exec(text)?.[1];
    return `a web page${title ? ` (${title})` : ''}; download the file again and look at the address`;
  }
  if (text.startsWith('{') && text.includes('"weight_map"')) {
    return converted('the index of weights in several files', [
      'import json, os',
      'from safetensors.torch import load_file, save_file',
      `index = ${source}`,
      'parts = set(json.load(open(index))["weight_map"].values())',
      'files = [load_file(os.path.join(os.path.dirname(index), part)) for part in parts]',
      `save_file({name: value for part in files for name, value in part.items()}, ${target})`,
    ]);
  }
  if (!/^[\s -~]*$/.test(text.slice(0, 64))) return null;
  const [line = ''] = text.split(/[\r\n]/, 1);
  return `text that begins with ${JSON.stringify(line.slice(0, 64))}; download the file again and look at the address`;
}

function describeBinary(head: string, { source, target }: Paths): string | null {
  if (head.startsWith('\x93NUMPY')) {
    return converted('a NumPy array (.npy), which has no name; give it the one that the network has', [
      'import numpy',
      'from safetensors.numpy import save_file',
      `save_file({"name": numpy.load(${source})}, ${target})`,
    ]);
  }
  // Protocol Buffers: ir_version (field 1, a small number), then producer_name (field 2, a short text).
  if (head[0] === '\x08' && inRange(head, 1, 1, 31) && head[2] === '\x12' && inRange(head, 3, 1, 127)) {
    return converted('an ONNX model', [
      'import onnx',
      'from safetensors.numpy import save_file',
      `weights = onnx.load(${source}).graph.initializer`,
      `save_file({weight.name: onnx.numpy_helper.to_array(weight) for weight in weights}, ${target})`,
    ]);
  }
  const found = MAGICS.find(([magic, , at = 0]) => head.startsWith(magic, at));
  return found?.[1] ?? null;
}

const unpack = (kind: string, command: string): string =>
  `a file compressed with ${kind}; decompress it with ${command}`;

/** Formats that a few lines cannot convert: how they begin (at a byte other than the first), and what to do. */
const MAGICS: readonly (readonly [magic: string, what: string, at?: number])[] = [
  ['GGUF', 'a GGUF file, whose weights are mostly quantised; get the safetensors file that it was made of'],
  ['\x89HDF\r\n\x1a\n', 'an HDF5 file, as Keras writes; its names and layouts are not those of PyTorch'],
  ['TFL3', 'a TensorFlow Lite model; its names and layouts are not those of PyTorch', 4],
  ['\x1f\x8b', unpack('gzip', 'gunzip')],
  ['\xfd7zXZ\x00', unpack('xz', 'unxz')],
  ['BZh', unpack('bzip2', 'bunzip2')],
  ['\x28\xb5\x2f\xfd', unpack('Zstandard', 'unzstd')],
  ['7z\xbc\xaf\x27\x1c', 'a 7z archive; unpack it and give the safetensors file in it'],
  ['ustar', 'a tar archive; unpack it and give the safetensors file in it', 257],
];
