// As index.cjs, of `layerwise/server`.
const { runInThisContext } = require('node:vm');

const { createRequire } = runInThisContext('process').getBuiltinModule('node:module');
module.exports = createRequire(__filename)('../dist/server/index.js');
