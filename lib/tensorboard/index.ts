export { EventFile, type SummaryValue } from './event-file.js';
export { filterImage } from './filter-image.js';
export { sessionEnd, sessionStart } from './hyperparameters.js';
