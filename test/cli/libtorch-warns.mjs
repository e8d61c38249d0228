// Loaded before the command line and before each of its threads: makes LibTorch warn once the command is under way.
setTimeout(async () => {
  /** @type {typeof import('../../dist/tensor/index.js')} */
  const { ones, scope, tensor } = await import(String(process.env.LAYERWISE_TEST_TENSOR));
  scope(() => ones([2]).index([tensor(Uint8Array.of(1, 0))]));
}, 500);
