// @ts-ignore: Node requires ES modules from 20.19 on, which `module: node16` of TypeScript does not know.
export * from '../dist/index.js';
