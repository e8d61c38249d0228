export * from './models/index.js';
export * from './nn/index.js';
export * from './optim/index.js';
export * from './tensor/index.js';
