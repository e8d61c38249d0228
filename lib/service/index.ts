export { TrainingJobError } from './errors.js';
export type { JobOptions, ResumeJobOptions } from './messages.js';
export { TrainingJob, type TrainingJobEvents } from './training-job.js';
