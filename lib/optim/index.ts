export { OptimizerError } from './errors.js';
export { GradScaler } from './grad-scaler.js';
export { multiStep, type Schedule } from './schedule.js';
export { Sgd, type SgdOptions } from './sgd.js';
