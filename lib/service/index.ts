export { TrainingJobError } from './errors.js';
export type { TrainJobOptions } from './job-input.js';
export { JobQueue } from './job-queue.js';
export type { JobModules, JobOptions, ResumeJobOptions } from './messages.js';
export { endSoon, startThread } from './module-thread.js';
export type {
  CloseOptions,
  InterruptedRun,
  JobQueueOptions,
  OpenQueueOptions,
  QueueOptions,
} from './queue-options.js';
export { LONGEST_DEADLINE_MS } from './queue-options.js';
export { QueuedJob } from './queued-job.js';
export { addressesOf, modulesAt, type SentCode } from './sent-code.js';
export { fromSent, type SentError, toSend } from './sent-error.js';
export { isFinal, type JobState, TrainingJob, type TrainingJobEvents } from './training-job.js';
