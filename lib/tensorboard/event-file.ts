// TensorBoard's event files: records of TFRecord's format, each a protocol buffer `Event`. The field numbers are those of
// TensorFlow's event.proto and summary.proto.
import { closeSync, openSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { PbfWriter } from 'pbf';
import { asWriteError } from '#scripts/support/files.mjs';
import { crc32c } from './crc32c.js';

/** A value of a summary, by its tag. */
export type SummaryValue =
  | { readonly tag: string; readonly scalar: number }
  | { readonly tag: string; readonly png: Uint8Array; readonly height: number; readonly width: number }
  /** Data of a plugin, such as its hyperparameters. */
  | { readonly tag: string; readonly plugin: string; readonly content: Uint8Array };

const EVENT = { wallTime: 1, step: 2, fileVersion: 3, summary: 5 } as const;
const SUMMARY = { value: 1 } as const;
const VALUE = { tag: 1, simpleValue: 2, image: 4, metadata: 9 } as const;
const IMAGE = { height: 1, width: 2, colorspace: 3, encodedImage: 4 } as const;
const METADATA = { pluginData: 1 } as const;
const PLUGIN_DATA = { name: 1, content: 2 } as const;
const RGB = 3;

/** A new event file of a folder, which TensorBoard reads while it is written. */
export class EventFile {
  readonly path: string;
  readonly #file: number;

  /** Throws WriteError, as `write` does. */
  constructor(folder: string) {
    const seconds = String(Math.floor(Date.now() / 1000)).padStart(10, '0');
    const file = openNew(join(folder, `events.out.tfevents.${seconds}.${hostname()}.${process.pid}`));
    this.path = file.path;
    this.#file = file.descriptor;
    this.#append((event) => event.writeStringField(EVENT.fileVersion, 'brain.Event:2'));
  }

  /** Appends an event. `step` is a step, an epoch or a depth, from 0. */
  write(values: readonly SummaryValue[], step: number): void {
    this.#append((event) => {
      event.writeVarintField(EVENT.step, step);
      event.writeMessage(EVENT.summary, writeSummary, values);
    });
  }

  close(): void {
    closeSync(this.#file);
  }

  #append(fill: (event: PbfWriter) => void): void {
    const event = new PbfWriter();
    event.writeDoubleField(EVENT.wallTime, Date.now() / 1000);
    fill(event);
    const record = recordOf(event.finish());
    try {
      // As a whole, so that a reader never waits in the middle of a record.
      for (let written = 0; written < record.length; ) written += writeSync(this.#file, record, written);
    } catch (error) {
      throw asWriteError(this.path, error);
    }
  }
}

/** Of this name and the first number that is free: a run may go on, in another thread, within the second in which it stopped. */
function openNew(name: string): { path: string; descriptor: number } {
  for (let number = 0; ; number++) {
    const path = `${name}.${number}`;
    try {
      return { path, descriptor: openSync(path, 'wx') };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw asWriteError(path, error);
    }
  }
}

function writeSummary(values: readonly SummaryValue[], summary: PbfWriter): void {
  for (const value of values) summary.writeMessage(SUMMARY.value, writeValue, value);
}

function writeValue(value: SummaryValue, message: PbfWriter): void {
  message.writeStringField(VALUE.tag, value.tag);
  if ('scalar' in value) message.writeFloatField(VALUE.simpleValue, value.scalar);
  else if ('png' in value) message.writeMessage(VALUE.image, writeImage, value);
  else message.writeMessage(VALUE.metadata, writeMetadata, value);
}

function writeImage({ height, width, png }: Extract<SummaryValue, { png: unknown }>, image: PbfWriter): void {
  image.writeVarintField(IMAGE.height, height);
  image.writeVarintField(IMAGE.width, width);
  image.writeVarintField(IMAGE.colorspace, RGB);
  image.writeBytesField(IMAGE.encodedImage, png);
}

function writeMetadata(value: Extract<SummaryValue, { plugin: unknown }>, metadata: PbfWriter): void {
  metadata.writeMessage(
    METADATA.pluginData,
    ({ plugin, content }, data: PbfWriter) => {
      data.writeStringField(PLUGIN_DATA.name, plugin);
      data.writeBytesField(PLUGIN_DATA.content, content);
    },
    value,
  );
}

/** TFRecord: the length (uint64), its checksum, the data, their checksum; little-endian. */
function recordOf(data: Uint8Array): Uint8Array {
  const record = new Uint8Array(data.length + 16);
  const view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, masked(crc32c(record.subarray(0, 8))), true);
  record.set(data, 12);
  view.setUint32(12 + data.length, masked(crc32c(data)), true);
  return record;
}

/** A checksum that may itself be summed up again, as TFRecord keeps it. */
const masked = (crc: number): number => (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
