// Reads event files by the formats' own definitions, and with none of the code that writes them.
import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';

/** The parts of TensorFlow's and TensorBoard's definitions that are read. */
const { root } = protobuf.parse(
  `
  syntax = "proto3";
  message Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }
  message Summary { repeated SummaryValue value = 1; }
  message SummaryValue { string tag = 1; float simple_value = 2; Image image = 4; Metadata metadata = 9; }
  message Image { int32 height = 1; int32 width = 2; int32 colorspace = 3; bytes encoded_image_string = 4; }
  message Metadata { PluginData plugin_data = 1; }
  message PluginData { string plugin_name = 1; bytes content = 2; }
  message HParams { int32 version = 1; Experiment experiment = 2; Start session_start_info = 3; End session_end_info = 4; }
  message Experiment { repeated HParam hparam_infos = 4; repeated Metric metric_infos = 5; }
  message HParam { string name = 1; int32 type = 4; }
  message Metric { MetricName name = 1; }
  message MetricName { string group = 1; string tag = 2; }
  message Start { map<string, Value> hparams = 1; double start_time_secs = 5; }
  message Value { oneof kind { double number_value = 2; string string_value = 3; bool bool_value = 4; } }
  message End { int32 status = 1; double end_time_secs = 2; }
`,
  { keepCase: true },
);

export interface ReadValue {
  readonly tag: string;
  readonly simple_value?: number;
  readonly image?: { readonly height: number; readonly width: number; readonly encoded_image_string: Uint8Array };
  readonly metadata?: { readonly plugin_data: { readonly plugin_name: string; readonly content: Uint8Array } };
}

export interface ReadEvent {
  readonly wall_time: number;
  readonly step: number;
  readonly file_version?: string;
  readonly summary?: { readonly value: readonly ReadValue[] };
}

export interface Hyperparameters {
  readonly experiment?: {
    readonly hparam_infos: readonly { name: string; type: number }[];
    readonly metric_infos: readonly { name: { tag: string } }[];
  };
  readonly session_start_info?: { readonly hparams: Readonly<Record<string, object>> };
  readonly session_end_info?: { readonly status: number };
}

const decode = (type: string, bytes: Uint8Array): unknown => {
  const message = root.lookupType(type);
  return message.toObject(message.decode(bytes), { longs: Number, arrays: true });
};

/** The events of a file, in order. Throws where a record's length or checksum is wrong. */
export function readEvents(path: string): ReadEvent[] {
  const bytes = readFileSync(path);
  const events: ReadEvent[] = [];
  for (let position = 0; position < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(position));
    requireSum(bytes.subarray(position, position + 8), bytes.readUInt32LE(position + 8));
    const data = bytes.subarray(position + 12, position + 12 + length);
    requireSum(data, bytes.readUInt32LE(position + 12 + length));
    // What is 0 is left out by the decoder.
    events.push({ step: 0, ...(decode('Event', data) as Omit<ReadEvent, 'step'>) });
    position += length + 16;
  }
  return events;
}

export const readHyperparameters = ({ metadata }: ReadValue): Hyperparameters =>
  decode('HParams', metadata!.plugin_data.content) as Hyperparameters;

/** Bit by bit, after the definition of CRC-32C and of TFRecord's mask. */
function requireSum(data: Uint8Array, expected: number): void {
  let crc = 0xffffffffn;
  for (const byte of data) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = crc & 1n ? (crc >> 1n) ^ 0x82f63b78n : crc >> 1n;
  }
  crc ^= 0xffffffffn;
  const masked = (((crc >> 15n) | (crc << 17n)) + 0xa282ead8n) & 0xffffffffn;
  if (masked !== BigInt(expected)) throw new Error(`expected the checksum ${expected}, got ${masked}`);
}
