// Loaded before the command line and before each of its threads: makes LibTorch warn once the command is under way.
setTimeout(async () => {
  const { ones, scope, tensor } = await import(process.env.LAYERWISE_TEST_TENSOR);
  scope(() => ones([2]).index([tensor(Uint8Array.of(1, 0))]));
}, 500);
