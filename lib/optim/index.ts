export { OptimizerError, type OptimizerErrorCode } from './errors.js';
export { GradScaler } from './grad-scaler.js';
export { type LbfgsOptions, type LbfgsResult, minimizeLbfgs, type Objective } from './lbfgs.js';
export { multiStep, type Schedule } from './schedule.js';
export { Sgd, type SgdOptions } from './sgd.js';
