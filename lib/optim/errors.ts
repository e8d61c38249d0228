/** A hyper-parameter of an optimiser or schedule is out of range. */
export class OptimizerError extends Error {
  override readonly name = 'OptimizerError';
  readonly code = 'INVALID_ARGUMENT';
}
