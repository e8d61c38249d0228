// What `require` gives: the same ES modules, and so the same instance, as `import`. Node's own `require` takes ES modules. A test
// runner such as Jest gives its files another one, which does not, so the process of the main context is asked.
const { runInThisContext } = require('node:vm');

const { createRequire } = runInThisContext('process').getBuiltinModule('node:module');
module.exports = createRequire(__filename)('../dist/index.js');
