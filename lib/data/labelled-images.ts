/** Images of one size in memory, each with the number of its class. */
export interface LabelledImages {
  /** [count, channels, height, width], row-major, 0 to 255. */
  readonly images: Uint8Array;
  /** [count]: places in the data set's list of classes. */
  readonly labels: Uint8Array | Int32Array;
  readonly count: number;
  /** Always 3: red, green, blue. */
  readonly channels: number;
  /** Pixels. */
  readonly height: number;
  readonly width: number;
}

/** Image files on disk, each with the number of its class; they are decoded whenever they are used. */
export interface ImageFiles {
  /** Directory of the class folders. */
  readonly root: string;
  /** The folder of each class, by label. */
  readonly folders: readonly string[];
  /** [count]: names of the files, each in the folder of its class. */
  readonly names: readonly string[];
  /** [count]: places in the data set's list of classes. */
  readonly labels: Uint8Array | Int32Array;
  readonly count: number;
  /** Pixels a side of what the files are made into. */
  readonly imageSize: number;
  /** Pixels of the shorter side before the centre is cut out, in evaluation; at least `imageSize`. */
  readonly testResize: number;
}

/** Training or test images of a data set, in memory or on disk. */
export type DatasetPart = LabelledImages | ImageFiles;

/** Per channel, of pixel values scaled to 0..1. */
export interface Normalization {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

export interface Dataset<Part extends DatasetPart = DatasetPart> {
  /** As in `loadDataset` and `--dataset`. */
  readonly name: string;
  /** For people: "CIFAR-10". */
  readonly title: string;
  readonly classes: readonly string[];
  readonly train: Part;
  readonly test: Part;
  readonly normalization: Normalization;
}
