import { type Device, deviceCode } from './device.js';
import { type DType, dtypeCode } from './dtype.js';
import { checkOptions, handlesOf, tensorsOf } from './handle.js';
import { native } from './native.js';
import { requireSynchronous } from './scope.js';
import type { Tensor } from './tensor.js';

/** Runs `body` under a native guard and gives its result back. A mode belongs to the thread, so no promise may leave. */
export function under<T>(name: string, enter: (body: () => void) => void, body: () => T): T {
  let result: T | undefined;
  enter(() => {
    result = body();
  });
  requireSynchronous(name, result);
  return result as T;
}

/** Runs `body` without recording for autograd. */
export function noGrad<T>(body: () => T): T {
  return under('noGrad', (run) => native.withGradMode(false, run), body);
}

/** Runs `body` with recording for autograd, inside `noGrad` too. */
export function enableGrad<T>(body: () => T): T {
  return under('enableGrad', (run) => native.withGradMode(true, run), body);
}

/** Runs `body` without autograd's bookkeeping; what it makes can never take part in a gradient. */
export function inferenceMode<T>(body: () => T): T {
  return under('inferenceMode', (run) => native.withInferenceMode(run), body);
}

/** Runs `body` with matrix products and convolutions in a shorter floating-point type, as torch.autocast does. */
export function autocast<T>(
  options: { device: Device; dtype: Extract<DType, 'float16' | 'bfloat16'> },
  body: () => T,
): T {
  checkOptions(options, 'autocast', ['device', 'dtype']);
  return under(
    'autocast',
    (run) => native.withAutocast(deviceCode(options.device), dtypeCode(options.dtype), run),
    body,
  );
}

/** Whether operators are recorded for autograd here. */
export const isGradEnabled = (): boolean => native.isGradEnabled();

/** Forgets the gradients of the given tensors. */
export function clearGradients(tensors: readonly Tensor[]): void {
  native.clearGradients(handlesOf(tensorsOf(tensors, 'tensors', 'clearGradients')));
}
