// Loaded before the command line: makes LibTorch warn once the command is under way, which is when it first writes.
const { write } = process.stdout;
process.stdout.write = (...args) => {
  process.stdout.write = write;
  void warn();
  return Reflect.apply(write, process.stdout, args);
};

async function warn() {
  /** @type {typeof import('../../dist/tensor/index.js')} */
  const { ones, scope, tensor } = await import(String(process.env.LAYERWISE_TEST_TENSOR));
  scope(() => ones([2]).index([tensor(Uint8Array.of(1, 0))]));
}
