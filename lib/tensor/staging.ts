// Memory that is filled on the host and then sent to a device.
import { type Device, deviceCode } from './device.js';
import { type DType, dtypeCode } from './dtype.js';
import { integersOf } from './handle.js';
import { native } from './native.js';
import { Tensor } from './tensor.js';

/**
 * A tensor on the CPU whose elements are whatever the memory held, to be filled and then sent to `device` by `send`. For a GPU it lies in
 * page-locked memory, unless it has more than 64 MiB: there is little of that.
 */
export function emptyStaged(
  shape: readonly number[],
  { dtype, device }: { readonly dtype: DType; readonly device: Device },
): Tensor {
  return new Tensor(
    native.emptyStaged(integersOf(shape, 'shape', 'emptyStaged'), dtypeCode(dtype), deviceCode(device)),
  );
}

/** Whether a tensor lies in page-locked memory of the host. */
export const isPageLocked = (tensor: Tensor): boolean => native.isPageLocked(tensor.handle);

/**
 * The tensor on `device`. For a GPU it is a copy that is made when its turn comes: nobody waits, and until then nothing may be written
 * to the tensor. It may be disposed at once: its memory is used for nothing else before. On the CPU the result shares its memory.
 */
export function send(tensor: Tensor, device: Device): Tensor {
  return new Tensor(native.send(tensor.handle, deviceCode(device)));
}
