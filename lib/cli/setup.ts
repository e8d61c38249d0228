import { Command } from 'commander';
import { setUp } from '#scripts/setup.mjs';
import { abortOnInterrupt } from './interrupt.js';

export function setUpCommand(): Command {
  return new Command('setup')
    .description('get what training needs: LibTorch, and the addon, prebuilt or compiled; once, into the cache folder')
    .action(async () => {
      const interrupt = abortOnInterrupt();
      try {
        process.exitCode = (await setUp({ announceFresh: true, signal: interrupt.signal })).code;
      } finally {
        interrupt.release();
      }
    });
}
