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

/** Per channel, of pixel values scaled to 0..1. */
export interface Normalization {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

export interface Dataset {
  /** As in `loadDataset` and `--dataset`. */
  readonly name: string;
  /** For people: "CIFAR-10". */
  readonly title: string;
  readonly classes: readonly string[];
  readonly train: LabelledImages;
  readonly test: LabelledImages;
  readonly normalization: Normalization;
}
