export { TrainingJob, TrainingJobError } from './training-job.js';
