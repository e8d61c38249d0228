export { RequestError, ServerError } from './errors.js';
export type { ServiceOptions } from './options.js';
export { trainingService } from './service.js';
