export type { JobOptions, ResumeJobOptions } from './messages.js';
export { TrainingJob, TrainingJobError } from './training-job.js';
