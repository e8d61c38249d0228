import { type Device, deviceCode } from './device.js';
import { native } from './native.js';

/**
 * The kernels of a piece of work on a CUDA device, recorded once and launched again as a whole: that costs the host as much as to
 * launch one kernel. Dispose it.
 *
 * The work must be the same each time: it reads and writes tensors that stay where they are, and never waits for the
 * device (no `item`, no copy to the host). Numbers that it is given, such as a learning rate, are recorded as they are.
 */
export class CudaGraph {
  readonly #handle: number;
  #isDisposed = false;

  private constructor(handle: number) {
    this.#handle = handle;
  }

  /**
   * Records `body`, which is run once for it; none of its kernels is run. Run the same work some times before, so that
   * libraries have their workspaces and have chosen their algorithms. Tensors that are kept from `body` hold the results of
   * the latest replay, and become invalid with the graph. Throws TensorError (DEVICE_UNAVAILABLE) where there is no such
   * device, or the addon was built without CUDA's headers.
   */
  static capture(device: Device, body: () => void): CudaGraph {
    return new CudaGraph(native.captureGraph(deviceCode(device), body));
  }

  /** Runs `body` on the stream that captures are made on: for the warm-up before one. Waits for the device. */
  static warmUp(device: Device, body: () => void): void {
    native.onCaptureStream(deviceCode(device), body);
  }

  /** Launches the work again. Returns at once. */
  replay(): void {
    native.replayGraph(this.#handle);
  }

  /** Frees the graph and its memory; waits for the device. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    native.disposeGraph(this.#handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
