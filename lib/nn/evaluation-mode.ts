// Modules in evaluation mode for a while, each put back into its own after it.
import type { Module } from './module.js';

/** A module and all in it, each before those in it. */
export const modulesIn = (module: Module): Module[] => [module, ...[...module.children.values()].flatMap(modulesIn)];

/** Runs `body` with `modules`, as `modulesIn` lists them, in evaluation mode, and puts each back into its own. */
export function inEvaluation<T>(modules: readonly Module[], body: () => T): T {
  const modes = modules.map((module) => [module, module.training] as const);
  if (!modes.some(([, isTraining]) => isTraining)) return body();
  for (const module of modules) module.eval();
  try {
    return body();
  } finally {
    // A module sets the mode of those in it with its own: they come after it.
    for (const [module, isTraining] of modes) module.train(isTraining);
  }
}
