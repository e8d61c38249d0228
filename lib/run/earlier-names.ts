// Names that earlier versions wrote into run directories. They are read as the new ones, and never written.

const IN_METRICS = new Map([['lr', 'learningRate']]);
const IN_AUGMENTATION = new Map([['sameViewsForAllLayers', 'sharedDraws']]);

/** A line of `metrics.jsonl` with the names of this version. What is no object is given back as it is. */
export const currentMetrics = (line: unknown): unknown => renamed(line, IN_METRICS);

/** A `config.json` with the names of this version in its recipe. */
export const currentConfig = (config: unknown): unknown => withPart(config, 'recipe', currentRecipe);

/** The recipe of a `config.json` with the names of this version. */
export const currentRecipe = (recipe: unknown): unknown =>
  withPart(recipe, 'augmentation', (augmentation) => renamed(augmentation, IN_AUGMENTATION));

function withPart(value: unknown, name: string, change: (part: unknown) => unknown): unknown {
  return isObject(value) && name in value ? { ...value, [name]: change(value[name]) } : value;
}

/** Keeps the order of the keys. An earlier name beside its new one stays, for the schema to refuse or to ignore. */
function renamed(value: unknown, names: ReadonlyMap<string, string>): unknown {
  if (!isObject(value)) return value;
  const newNameOf = (key: string): string => {
    const name = names.get(key);
    return name === undefined || Object.hasOwn(value, name) ? key : name;
  };
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [newNameOf(key), part]));
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
