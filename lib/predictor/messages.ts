// What passes between a predictor and its worker thread: plain data, cloned or transferred.
import type { AnsweredBy, Classified, ImageReading, OpenOptions } from '../finished/index.js';
import type { SentCode, SentError } from '../service/index.js';

/** Which network a worker loads, how it computes, and what answers. */
export interface NetworkRequest {
  /** Of a run directory or an exported file. */
  readonly path: string;
  /** What answers; default: the last layer. 'chosen': as `evaluate --early-exit` found. */
  readonly by?: AnsweredBy | 'chosen' | undefined;
  /** Whether the head of every layer answers, too. */
  readonly everyLayer: boolean;
  readonly device?: OpenOptions['device'];
  readonly precision?: OpenOptions['precision'];
  readonly threads?: number | undefined;
  /** Addresses of modules of a network of one's own: a URL cannot be cloned. */
  readonly code: SentCode;
}

/** What is known of a network that was loaded. */
export interface NetworkFacts {
  readonly classes: readonly string[];
  /** [channels, height, width] of images, [length] of vectors. */
  readonly inputShape: readonly number[];
  readonly layers: number;
  readonly device: string;
  readonly precision: string;
  readonly notes: readonly string[];
  /** Null where it reads no image files. */
  readonly reading: ImageReading | null;
}

/** Inputs to be computed together: bytes of `count` images, or float32 of vectors, one after the other. */
export interface BatchRequest {
  readonly inputs: Uint8Array<ArrayBuffer>;
  readonly count: number;
  /** Classes to name of each. */
  readonly top: number;
}

/** What a batch came to. */
export interface Answer {
  readonly chosen: Classified;
  /** Of every layer that has a head, where that was asked for. */
  readonly byLayer: readonly Classified[] | null;
}

export type ToWorker = { readonly type: 'batch'; readonly batch: BatchRequest } | { readonly type: 'close' };

export type FromWorker =
  | { readonly type: 'loaded'; readonly facts: NetworkFacts }
  | { readonly type: 'answer'; readonly answer: Answer }
  /** The network could not be loaded, or the last batch not computed. */
  | { readonly type: 'failed'; readonly error: SentError }
  /** Nothing is left to do. */
  | { readonly type: 'closed' }
  /** What LibTorch has to say. */
  | { readonly type: 'libtorch'; readonly text: string };
