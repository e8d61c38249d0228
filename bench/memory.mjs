// One measurement of memory, in a process of its own: `memory.mjs REQUEST THREADS`.
import { setThreads } from '../dist/tensor/index.js';
import { measures } from './ours.mjs';

setThreads(Number(process.argv[3]));
const bytes = await measures.memory(JSON.parse(process.argv[2]));
process.send?.(bytes, () => process.exit(0));
