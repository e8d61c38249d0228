// The classes of ImageNet's validation images where they lie in one folder, as they are distributed.
import { basename, extname, join } from 'node:path';
import { shown } from '../format.js';
import { readLines, TextFileError } from '../text-file.js';
import { type FlatFolder, IMAGE_EXTENSIONS } from './class-folders.js';
import { DataError } from './errors.js';
import { fileSystemError } from './file-errors.js';

/** A label file: its name and how it is read. */
interface LabelFile {
  readonly name: string;
  readonly read: (file: TextFile, context: Context) => Promise<LabelsOf>;
}

/** The class of each image, in the order of the names, undefined where the file has none. */
type LabelsOf = (images: readonly string[]) => readonly (string | undefined)[];

interface Context {
  /** Folders that label files may lie in. */
  readonly folders: readonly string[];
  readonly classes: readonly string[];
}

interface TextFile {
  readonly path: string;
  /** As of `readLines`, in Unicode's composed form, as the classes are. */
  readonly lines: readonly string[];
}

/** In this order; the first that is there is read. */
const LABEL_FILES: readonly LabelFile[] = [
  // Kaggle: ImageId,PredictionString with lines such as "ILSVRC2012_val_00048981,n03995372 85 1 499 272".
  { name: 'LOC_val_solution.csv', read: async (file) => byName(file, firstWord) },
  { name: 'val.csv', read: readPairs },
  // Caffe: "ILSVRC2012_val_00000001.JPEG 65", an index into the sorted WordNet ids.
  { name: 'val.txt', read: readPairs },
  // TensorFlow: the WordNet id of image n in line n.
  { name: 'imagenet_2012_validation_synset_labels.txt', read: async (file) => byNumber(file, file.lines) },
  // The development kits: the number of a synset for image n in line n.
  ...['ILSVRC2012_validation', 'ILSVRC2014_clsloc_validation', 'ILSVRC2015_clsloc_validation'].map((part) => ({
    name: `${part}_ground_truth.txt`,
    read: readGroundTruth,
  })),
];

/** The numbers of the development kits' synsets: "n02119789 1 kit_fox". */
const SYNSET_NUMBERS = 'map_clsloc.txt';
/** Lists of WordNet ids, which an index counts from 0: one a line, with or without words behind it. */
const SYNSET_LISTS = ['synsets.txt', 'synset_words.txt', 'LOC_synset_mapping.txt'];

/** Where the label files are looked for, in each of the given folders. */
const SUBFOLDERS = ['.', 'ILSVRC2012_devkit_t12/data', 'devkit/data', 'ILSVRC/devkit/data'];

/**
 * The class of each image, by index, from the first label file that is found in `folders` or in a development kit's
 * folder there. Throws `DataError`: DATA_NOT_FOUND with all that was looked for, DATA_CORRUPT naming file and line, or the
 * images without a class.
 */
export async function readValidationLabels(
  { dir, names, classes }: FlatFolder,
  folders: readonly string[],
): Promise<readonly number[]> {
  const context = { folders: folders.flatMap((folder) => SUBFOLDERS.map((sub) => join(folder, sub))), classes };
  for (const { name, read } of LABEL_FILES) {
    const file = await find([name], context.folders);
    if (file === null) continue;
    const labelsOf = await read(file, context);
    return indicesOf({ dir, names, classes }, file.path, labelsOf(names));
  }
  throw new DataError(
    'DATA_NOT_FOUND',
    `${shown(dir)} has no class folders, and no file tells the classes of its images: expected ` +
      `${LABEL_FILES.map(({ name }) => name).join(', ')} in ${folders.map(shown).join(' or ')}, ` +
      `or in ${SUBFOLDERS.slice(1).join(', ')} there`,
  );
}

function indicesOf(
  { dir, names, classes }: FlatFolder,
  path: string,
  found: readonly (string | undefined)[],
): number[] {
  const labels = new Map(classes.map((name, label) => [name, label]));
  refuse(
    names.filter((_, at) => found[at] === undefined),
    (some) => `${shown(path)} has no class for ${some} of ${shown(dir)}`,
  );
  refuse([...new Set(found.filter((name) => name !== undefined && !labels.has(name)) as string[])], (some) => {
    return `${shown(path)} has the class ${some}, which train/ lacks`;
  });
  return found.map((name) => labels.get(name!)!);
}

function refuse(names: readonly string[], message: (some: string) => string): void {
  if (names.length === 0) return;
  const more = names.length > 3 ? ` and ${names.length - 3} more` : '';
  throw new DataError('DATA_CORRUPT', message(names.slice(0, 3).map(shown).join(', ') + more));
}

/**
 * Lines of an image and its class: by name, or by its index into the synset list that is there, else into the classes. A file
 * has one of the two: names where all are classes, else indices. Numbers that may be both, of different classes, are refused.
 */
async function readPairs(file: TextFile, { folders, classes }: Context): Promise<LabelsOf> {
  const known = new Set(classes);
  const hasSpaces = classes.some((name) => name.includes(' '));
  const given = byName(file, (fields) => (fields.isSpaced && !hasSpaces ? firstWord(fields) : fields.label));
  const list = await find(SYNSET_LISTS, folders);
  const synsets = list === null ? classes : list.lines.map((line) => line.split(/[\s,]/, 1)[0]!);
  const listed = list === null ? 'the classes of train/' : shown(list.path);
  return (images) => {
    const labels = given(images);
    const all = labels.filter((label) => label !== undefined);
    const isNames = all.every((label) => known.has(label));
    const isIndices = all.length > 0 && all.every((label) => /^\d+$/.test(label));
    if (!isIndices) return labels;
    const corrupt = (what: string) =>
      new DataError('DATA_CORRUPT', `${shown(file.path)}: ${what}`, { path: file.path });
    const byIndex = labels.map((label) => (label === undefined ? undefined : synsets[Number(label)]));
    if (isNames) {
      const other = labels.findIndex((label, at) => label !== byIndex[at]);
      const areIndices = byIndex.every(
        (synset, at) => labels[at] === undefined || (synset !== undefined && known.has(synset)),
      );
      if (other < 0 || !areIndices) return labels;
      throw corrupt(
        `${shown(images[other]!)} is ${labels[other]}: the name of a class, and the index of the class ` +
          `${shown(byIndex[other]!)} (${listed}): expected the one or the other; put the images into class folders`,
      );
    }
    const beyond = labels.findIndex((label, at) => label !== undefined && byIndex[at] === undefined);
    if (beyond < 0) return byIndex;
    throw corrupt(
      `${shown(images[beyond]!)} has the index ${labels[beyond]}, expected 0 to ${synsets.length - 1} (${listed})`,
    );
  };
}

/** Lines of an image and its class, as `fieldsOf` divides them. */
function byName({ path, lines }: TextFile, classOf: (fields: Fields) => string): LabelsOf {
  const separator = separatorOf(lines);
  const classes = new Map<string, string>();
  lines.forEach((line, at) => {
    if (line === '') return;
    const fields = fieldsOf(line, separator);
    if (fields === null) {
      throw new DataError(
        'DATA_CORRUPT',
        `${shown(path)}, line ${at + 1}: expected an image and its class, got "${shown(line)}"`,
      );
    }
    const image = basename(fields.image);
    const label = classOf(fields);
    if ((classes.get(image) ?? label) !== label) {
      throw new DataError(
        'DATA_CORRUPT',
        `${shown(path)}, line ${at + 1}: ${shown(image)} was of another class before`,
      );
    }
    classes.set(image, label);
  });
  return (images) => {
    const takenBy = new Map<string, string>();
    return images.map((name) => {
      const image = name.normalize('NFC');
      // Names are listed with their extension or without.
      const listed = classes.has(image) ? image : withoutExtension(image);
      const other = takenBy.get(listed);
      if (other !== undefined && classes.has(listed)) {
        const both = `${shown(other)} and ${shown(name)}`;
        throw new DataError('DATA_CORRUPT', `${shown(path)}: ${shown(listed)} stands for ${both}: expected one image`, {
          path,
        });
      }
      takenBy.set(listed, name);
      return classes.get(listed);
    });
  };
}

/** What a line says. */
interface Fields {
  readonly image: string;
  readonly label: string;
  /** Whether they are divided by spaces. The class is then all that follows the image. */
  readonly isSpaced: boolean;
}

const firstWord = ({ label }: Fields): string => label.split(/\s+/, 1)[0]!;

const SEPARATORS = ['\t', ',', ';'] as const;
type Separator = (typeof SEPARATORS)[number];

/** The separator of a file's fields: the first of these that its first line has, else spaces. */
function separatorOf(lines: readonly string[]): Separator | null {
  const first = lines.find((line) => line !== '') ?? '';
  return SEPARATORS.find((separator) => first.includes(separator)) ?? null;
}

/** The first two fields of a line; columns behind them are left out. Null where they are not there, or empty. */
function fieldsOf(line: string, separator: Separator | null): Fields | null {
  if (separator === null) {
    const [, image, label] = /^(\S+)\s+(.+)$/.exec(line) ?? [];
    return image === undefined || label === undefined ? null : { image, label, isSpaced: true };
  }
  // In double quotes, which are doubled inside (RFC 4180), or bare.
  const field = ` *(?:"((?:[^"]|"")*)" *|([^"${separator}][^${separator}]*))`;
  const found = new RegExp(`^${field}${separator}${field}(?:${separator}|$)`).exec(line);
  const [image, label] = [1, 3].map((at) => (found?.[at]?.replaceAll('""', '"') ?? found?.[at + 1] ?? '').trim());
  return image === '' || label === '' ? null : { image: image!, label: label!, isSpaced: false };
}

/** A name without the extension of an image; any other end of it stays. */
function withoutExtension(name: string): string {
  const extension = extname(name);
  return IMAGE_EXTENSIONS.has(extension.toLowerCase()) ? basename(name, extension) : name;
}

/** A line an image; images are numbered from 1, as ILSVRC2012_val_00000001.JPEG. */
function byNumber({ path }: TextFile, labels: readonly string[]): LabelsOf {
  return (images) =>
    images.map((image) => {
      const number = /_(\d{8})$/.exec(withoutExtension(image))?.[1];
      if (number === undefined) {
        throw new DataError(
          'DATA_CORRUPT',
          `${shown(path)} goes by numbers: expected images such as ILSVRC2012_val_00000001.JPEG, got ${shown(image)}`,
        );
      }
      // An empty line is that of an image without a class.
      return labels[Number(number) - 1] || undefined;
    });
}

/** Numbers of the development kit's synsets. They are not in the order of the WordNet ids. */
async function readGroundTruth(file: TextFile, { folders }: Context): Promise<LabelsOf> {
  const numbers = await find([SYNSET_NUMBERS], folders);
  if (numbers === null) {
    throw new DataError(
      'DATA_NOT_FOUND',
      `${shown(file.path)} holds numbers of the development kit's own, and its meta.mat is not read: expected ` +
        `${SYNSET_NUMBERS} (lines such as "n02119789 1 kit_fox") in ${folders.map(shown).join(', ')}`,
    );
  }
  const synsets = new Map(numbers.lines.map((line) => line.split(/\s+/).slice(0, 2).reverse() as [string, string]));
  return byNumber(
    file,
    file.lines.map((line, at) => {
      const synset = synsets.get(line);
      if (synset !== undefined) return synset;
      throw new DataError(
        'DATA_CORRUPT',
        `${shown(file.path)}, line ${at + 1}: expected a number of ${shown(numbers.path)}, got "${shown(line)}"`,
      );
    }),
  );
}

/** The first file of these names in the first folder that has one. */
async function find(names: readonly string[], folders: readonly string[]): Promise<TextFile | null> {
  for (const folder of folders) {
    for (const name of names) {
      const path = join(folder, name);
      try {
        return { path, lines: (await readLines(path)).map((line) => line.normalize('NFC')) };
      } catch (error) {
        if (!(error instanceof TextFileError)) throw error;
        const { code, syscall } = (error.cause ?? {}) as NodeJS.ErrnoException;
        if (code === 'ENOENT' || code === 'ENOTDIR') continue;
        if (syscall !== undefined) throw fileSystemError(path, error.cause, 'file');
        throw new DataError('DATA_CORRUPT', shown(error.message), { cause: error, path });
      }
    }
  }
  return null;
}
