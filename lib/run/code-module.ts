// Code of the user's own that a run is made with: a network and data, given as functions or as the modules that export them.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { ImageSize, OwnData } from '../data/index.js';
import { LayerwiseError } from '../errors.js';
import { type NetworkBuilder, requireNetwork } from '../models/index.js';
import { shown } from '../schema.js';
import { ModuleFileError } from './errors.js';
import type { ModuleRecord, RunConfig } from './record.js';

/** What data of one's own are to be made for. */
export interface DataRequest {
  /** The recipe's `dataset.options`. */
  readonly options: Readonly<Record<string, unknown>>;
  /**
   * The recipe's `dataset.imageSize`, pixels a side or [height, width], which image files and encoded images are made; null where the
   * data are vectors.
   */
  readonly imageSize: ImageSize | null;
  /** The recipe's `dataset.channels`, which image files and encoded images are made. */
  readonly channels: number | null;
  /** Whether the training images are not needed: then they may be left out. */
  readonly testOnly: boolean;
  /** Where an ImageSource is to give out its images. */
  readonly device: string;
  /** Aborted when the run is stopped. */
  readonly signal: AbortSignal | undefined;
}

/** Reads or makes data of one's own. It is called again where a run is resumed. */
export type DataBuilder = (request: DataRequest) => OwnData | Promise<OwnData>;

/**
 * A network and data of one's own. A URL is that of a module, a JavaScript file that exports a function `network`
 * (`NetworkBuilder`), `data` (`DataBuilder`) or both. A text is no URL: whoever passes on options that came as JSON cannot be made to
 * run code.
 */
export interface OwnCode {
  readonly network?: NetworkBuilder | URL;
  readonly data?: OwnData | DataBuilder | URL;
  /** Instead of `network` and `data`: a module that exports both, or one of them. */
  readonly module?: URL;
}

export const OWN_CODE: readonly (keyof OwnCode)[] = ['network', 'data', 'module'];

/** Own code, ready to be called. */
export interface LoadedCode {
  readonly network?: NetworkBuilder;
  readonly data?: OwnData | DataBuilder;
  /** What was loaded from modules. */
  readonly modules?: NonNullable<RunConfig['modules']>;
}

/** A URL of any realm. */
export const isUrl = (value: unknown): value is URL => Object.prototype.toString.call(value) === '[object URL]';

/** Throws the error that `refuse` makes for what is neither code nor the URL of a module. */
export function requireOwnCode({ network, data, module }: OwnCode, refuse: (problem: string) => Error): void {
  const isFunction = (value: unknown): boolean => typeof value === 'function';
  const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null;
  const expected = [
    ['network', network, isFunction, 'a function, or the URL of a module'],
    ['data', data, (value) => isFunction(value) || isObject(value), 'data, a function, or the URL of a module'],
    ['module', module, () => false, 'a URL of a module'],
  ] satisfies [string, unknown, (value: unknown) => boolean, string][];
  for (const [name, value, isCode, what] of expected) {
    if (value === undefined || isUrl(value) || isCode(value)) continue;
    throw refuse(`${name}: expected ${what}, which a text is not, got ${shown(value)}`);
  }
}

/**
 * Imports the modules that are named. Throws ModuleFileError for what is no code, and for a module that is no file, cannot be
 * imported or lacks the export that is needed.
 */
export async function loadCode(given: OwnCode): Promise<LoadedCode> {
  requireOwnCode(given, (problem) => new ModuleFileError(problem));
  const { network, data, module } = given;
  if (module === undefined) return joined([await networkOf(network), await dataOf(data)]);
  if (network === undefined && data === undefined) return loadModule(module);
  throw new ModuleFileError('module: expected either module, or network and data, got both');
}

/** The code of a module that exports a network, data or both. */
async function loadModule(url: URL): Promise<LoadedCode> {
  const { record, exported } = await importModule('module', url);
  const network = builderIn(record, exported);
  const data = readerIn(record, exported);
  if (network === undefined && data === undefined) {
    const got = namesIn(exported);
    throw new ModuleFileError(`${record.path}: expected it to export a function network, data or both, got ${got}`);
  }
  return joined([
    network === undefined ? {} : { network, modules: { network: record } },
    data === undefined ? {} : { data, modules: { data: record } },
  ]);
}

async function networkOf(network: OwnCode['network']): Promise<LoadedCode> {
  if (network === undefined) return {};
  if (!isUrl(network)) return { network };
  const { record, found } = await importFor('network', network, builderIn);
  return { network: found, modules: { network: record } };
}

async function dataOf(data: OwnCode['data']): Promise<LoadedCode> {
  if (data === undefined) return {};
  if (!isUrl(data)) return { data };
  const { record, found } = await importFor('data', data, readerIn);
  return { data: found, modules: { data: record } };
}

const joined = (parts: readonly LoadedCode[]): LoadedCode => {
  const modules = Object.assign({}, ...parts.map((part) => part.modules)) as NonNullable<RunConfig['modules']>;
  const code = Object.assign({}, ...parts) as LoadedCode;
  return Object.keys(modules).length === 0 ? code : { ...code, modules };
};

type Exports = Readonly<Record<string, unknown>>;

async function importFor<T>(
  name: 'network' | 'data',
  url: URL,
  find: (record: ModuleRecord, exported: Exports) => T | undefined,
): Promise<{ record: ModuleRecord; found: T }> {
  const { record, exported } = await importModule(name, url);
  const found = find(record, exported);
  if (found !== undefined) return { record, found };
  throw new ModuleFileError(`${record.path}: expected it to export a function ${name}, got ${namesIn(exported)}`);
}

async function importModule(name: string, url: URL): Promise<{ record: ModuleRecord; exported: Exports }> {
  if (url.protocol !== 'file:') {
    throw new ModuleFileError(`${name}: expected the URL of a file (file:), got ${url.href}`);
  }
  const path = pathOf(name, url);
  const text = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    const problem = cause.code === 'ENOENT' ? 'not found' : `cannot be read (${cause.code})`;
    throw new ModuleFileError(`${name}: ${path}: ${problem}`, { cause });
  });
  const sha256 = createHash('sha256').update(text).digest('hex');
  // Node caches modules by URL, and CommonJS modules by path. So a file that has changed since it was imported runs with its new
  // text; the modules that it imports stay cached.
  const fresh = new URL(url);
  fresh.searchParams.set('sha256', sha256.slice(0, 16));
  delete createRequire(url).cache[path];
  try {
    return { record: { path, sha256 }, exported: (await import(/* @vite-ignore */ fresh.href)) as Exports };
  } catch (cause) {
    const hint = /\.[cm]?tsx?$/.test(path) ? '; compile it to JavaScript, or run on Node 22.18 or later' : '';
    throw new ModuleFileError(`${path}: cannot be imported: ${told(cause)}${hint}`, { cause });
  }
}

function pathOf(name: string, url: URL): string {
  try {
    return fileURLToPath(url);
  } catch (cause) {
    throw new ModuleFileError(`${name}: expected the URL of a file of this machine, got ${url.href}`, { cause });
  }
}

/** What an error of the user's code says, and where, if that is in a file that was imported from here. */
function told(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const message = error.message.replace(/\?sha256=[0-9a-f]{16}/g, '');
  if (error instanceof LayerwiseError) return message;
  const at = /(file:\/\/[^\s?)]+)\?sha256=[0-9a-f]{16}:(\d+)|^(file:\/\/[^\s?)]+):(\d+)\n/.exec(error.stack ?? '');
  if (at === null) return message;
  return `${message} (line ${at[2] ?? at[4]} of ${fileURLToPath((at[1] ?? at[3])!)})`;
}

function namesIn(exported: Exports): string {
  const names = Object.keys(exported);
  return names.length === 0 ? 'no exports' : `exports ${names.join(', ')}`;
}

/** The network's builder, whose errors name the file. */
function builderIn({ path }: ModuleRecord, { network }: Exports): NetworkBuilder | undefined {
  if (network === undefined) return undefined;
  requireFunction(path, 'network', network);
  return (request) => {
    try {
      const built: unknown = network(request);
      requireNetwork(built);
      return built;
    } catch (cause) {
      throw new ModuleFileError(`${path}: network: ${told(cause).replace(/^network: /, '')}`, { cause });
    }
  };
}

/** The reader of data, whose errors name the file. */
function readerIn({ path }: ModuleRecord, { data }: Exports): DataBuilder | undefined {
  if (data === undefined) return undefined;
  requireFunction(path, 'data', data);
  return async (request) => {
    try {
      return (await data(request)) as OwnData;
    } catch (cause) {
      throw new ModuleFileError(`${path}: data: ${told(cause)}`, { cause });
    }
  };
}

function requireFunction(path: string, name: string, value: unknown): asserts value is (request: unknown) => unknown {
  if (typeof value === 'function') return;
  throw new ModuleFileError(`${path}: expected a function for its export ${name}, got ${typeof value}`);
}
