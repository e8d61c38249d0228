// What TensorBoard's page of hyperparameters reads: the recipe's values, and which scalars are results. The field numbers are those
// of its hparams/plugin_data.proto and hparams/api.proto.
import { PbfWriter } from 'pbf';
import type { SummaryValue } from './event-file.js';

type Value = string | number | boolean;

const PLUGIN_DATA = { version: 1, experiment: 2, sessionStart: 3, sessionEnd: 4 } as const;
const EXPERIMENT = { hyperparameters: 4, metrics: 5 } as const;
const HYPERPARAMETER = { name: 1, type: 4 } as const;
const METRIC = { name: 1 } as const;
const METRIC_NAME = { tag: 2 } as const;
const SESSION_START = { hyperparameters: 1, startTime: 5 } as const;
const SESSION_END = { status: 1, endTime: 2 } as const;
/** Of google.protobuf.Value. */
const VALUE = { number: 2, string: 3, bool: 4 } as const;
const TYPES = { string: 1, boolean: 2, number: 3 } as const;
const SUCCESS = 1;

/** The values of a recipe by their path, as `training.learningRate`; lists are texts, and null is left out. */
export function flattened(recipe: object, prefix = ''): [name: string, value: Value][] {
  return Object.entries(recipe).flatMap(([name, value]: [string, unknown]): [string, Value][] => {
    const path = `${prefix}${name}`;
    if (value === null || value === undefined) return [];
    if (Array.isArray(value)) return [[path, JSON.stringify(value)]];
    if (typeof value === 'object') return flattened(value, `${path}.`);
    return [[path, value as Value]];
  });
}

/** The hyperparameters of a run that begins, and the tags of its results. */
export function sessionStart(recipe: object, metrics: readonly string[]): SummaryValue[] {
  const values = flattened(recipe);
  return [
    pluginValue('experiment', (data) =>
      data.writeMessage(PLUGIN_DATA.experiment, writeExperiment, { values, metrics }),
    ),
    pluginValue('session_start_info', (data) => data.writeMessage(PLUGIN_DATA.sessionStart, writeSessionStart, values)),
  ];
}

/** The end of a run that has finished. */
export function sessionEnd(): SummaryValue {
  return pluginValue('session_end_info', (data) =>
    data.writeMessage(
      PLUGIN_DATA.sessionEnd,
      (_, message: PbfWriter) => {
        message.writeVarintField(SESSION_END.status, SUCCESS);
        message.writeDoubleField(SESSION_END.endTime, Date.now() / 1000);
      },
      null,
    ),
  );
}

function pluginValue(name: string, fill: (data: PbfWriter) => void): SummaryValue {
  const data = new PbfWriter();
  data.writeVarintField(PLUGIN_DATA.version, 0);
  fill(data);
  return { tag: `_hparams_/${name}`, plugin: 'hparams', content: data.finish() };
}

function writeExperiment(
  { values, metrics }: { values: readonly [string, Value][]; metrics: readonly string[] },
  experiment: PbfWriter,
): void {
  for (const [name, value] of values) {
    experiment.writeMessage(
      EXPERIMENT.hyperparameters,
      (_, message: PbfWriter) => {
        message.writeStringField(HYPERPARAMETER.name, name);
        message.writeVarintField(HYPERPARAMETER.type, TYPES[typeof value as keyof typeof TYPES]);
      },
      null,
    );
  }
  for (const tag of metrics) experiment.writeMessage(EXPERIMENT.metrics, writeMetric, tag);
}

function writeMetric(tag: string, metric: PbfWriter): void {
  metric.writeMessage(
    METRIC.name,
    (name: string, message: PbfWriter) => message.writeStringField(METRIC_NAME.tag, name),
    tag,
  );
}

function writeSessionStart(values: readonly [string, Value][], session: PbfWriter): void {
  // A map: each entry a message with the key in field 1 and the value in field 2.
  for (const [name, value] of values) {
    session.writeMessage(
      SESSION_START.hyperparameters,
      (_, entry: PbfWriter) => {
        entry.writeStringField(1, name);
        entry.writeMessage(2, writeValue, value);
      },
      null,
    );
  }
  session.writeDoubleField(SESSION_START.startTime, Date.now() / 1000);
}

function writeValue(value: Value, message: PbfWriter): void {
  if (typeof value === 'number') message.writeDoubleField(VALUE.number, value);
  else if (typeof value === 'string') message.writeStringField(VALUE.string, value);
  else message.writeBooleanField(VALUE.bool, value);
}
