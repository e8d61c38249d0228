export type { JobOptions } from './messages.js';
export { TrainingJob, TrainingJobError } from './training-job.js';
