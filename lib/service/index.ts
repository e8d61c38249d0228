export type { JobOptions, ResumeJobOptions } from './messages.js';
export { TrainingJob, TrainingJobError, type TrainingJobEvents } from './training-job.js';
