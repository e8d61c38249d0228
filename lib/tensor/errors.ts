import { LayerwiseError } from '../errors.js';

/**
 * What went wrong with a tensor:
 * - INVALID_ARGUMENT: an argument is of the wrong kind or out of range;
 * - TENSOR_DISPOSED: a tensor or generator was used after it had been disposed;
 * - OPERATOR_FAILED: LibTorch refused the call, for shapes or dtypes that do not fit, say;
 * - OUT_OF_MEMORY: the host's or the device's memory was not enough;
 * - COLLECTIVE_FAILED: an operator that several processes compute together, such as a synchronised batch norm, lost one of them;
 * - DEVICE_UNAVAILABLE: a device was asked for that this build or machine does not have;
 * - ADDON_UNAVAILABLE: the native addon could not be loaded.
 */
export type TensorErrorCode =
  | 'INVALID_ARGUMENT'
  | 'TENSOR_DISPOSED'
  | 'OPERATOR_FAILED'
  | 'OUT_OF_MEMORY'
  | 'COLLECTIVE_FAILED'
  | 'DEVICE_UNAVAILABLE'
  | 'ADDON_UNAVAILABLE';

/** A tensor that a failed operator was given, in words: it holds no memory. */
export interface TensorDescription {
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly device: string;
}

/** A failure in the tensor library, with the operator and the tensors it was given. */
export class TensorError extends LayerwiseError {
  override readonly name = 'TensorError';
  readonly code: TensorErrorCode;
  readonly operator: string;
  readonly tensors: readonly TensorDescription[];

  constructor(details: {
    code: TensorErrorCode;
    operator: string;
    message: string;
    tensors?: readonly TensorDescription[];
    cause?: unknown;
  }) {
    const tensors = details.tensors ?? [];
    const given = tensors.map((t) => `${t.dtype}[${t.shape.join(', ')}] on ${t.device}`).join('; ');
    super(`${details.operator}: ${details.message}${given === '' ? '' : ` (given ${given})`}`, {
      cause: details.cause,
    });
    this.code = details.code;
    this.operator = details.operator;
    this.tensors = tensors;
  }
}
