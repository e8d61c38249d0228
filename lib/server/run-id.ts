import { join } from 'node:path';
import { RequestError } from './errors.js';

/** The name of a run's directory: nothing in it leads out of the folder of the runs, and it is none of the files of the queue there. */
export const RUN_ID = /^(?!queue\.)[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;

/** The directory of a run in the folder of the runs. Throws RequestError for what no run is called. */
export function directoryOf(runs: string, id: string): string {
  if (RUN_ID.test(id)) return join(runs, id);
  throw new RequestError(
    400,
    'RUN_ID',
    `expected a name of letters, digits, ".", "_" and "-" for a run, got ${JSON.stringify(id)}`,
  );
}
