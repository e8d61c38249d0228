export { AdamW, type AdamWOptions } from './adamw.js';
export { OptimizerError, type OptimizerErrorCode } from './errors.js';
export { GradScaler } from './grad-scaler.js';
export { type LbfgsOptions, type LbfgsResult, minimizeLbfgs, type Objective } from './lbfgs.js';
export { Muon, type MuonOptions, type MuonSgdOptions } from './muon.js';
export type { Optimizer, OptimizerState } from './optimizer.js';
export { cosine, linearWarmup, multiStep, oneCycle, type Schedule } from './schedule.js';
export { Sgd, type SgdOptions } from './sgd.js';
