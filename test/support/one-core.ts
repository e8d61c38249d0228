// Programs that have one processor to themselves, or share it.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** What stands before a command to bind it to the first processor that this process may use; null where that cannot be done. */
export const onOneCore: readonly string[] | null = (() => {
  if (process.platform !== 'linux') return null;
  const first = /^Cpus_allowed_list:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]!;
  const binding = ['taskset', '-c', first];
  return spawnSync(binding[0]!, [...binding.slice(1), 'true']).status === 0 ? binding : null;
})();
