import { root } from '../support/paths.mjs';
import { bytes } from '../support/progress.mjs';
import { addonInputs, addonOutputs, buildAddon } from './addon.mjs';
import { areInstalled, dependencyInputs, installLocked } from './dependencies.mjs';
import { libtorchStep } from './libtorch-step.mjs';
import { prerequisiteInputs, requirePrerequisites } from './prerequisites.mjs';
import {
  compileTypeScript,
  generateOperators,
  operatorInputs,
  operatorOutputs,
  typeScriptInputs,
  typeScriptOutputs,
} from './sources.mjs';

/** @import { Step } from './steps.mjs' */

/**
 * What brings a clone to the point where it trains.
 * @type {readonly Step[]}
 */
export const cloneSteps = [
  {
    name: 'prerequisites',
    inputs: ({ env }) => prerequisiteInputs(env),
    outputs: () => [],
    run: async ({ env }) => `Node ${process.versions.node}, ${await requirePrerequisites(env)}`,
  },
  {
    name: 'npm dependencies',
    doing: 'installing',
    inputs: dependencyInputs,
    outputs: () => [areInstalled()],
    async run(context) {
      if (areInstalled()) return 'already installed';
      await installLocked(root, context);
      return 'installed as locked';
    },
  },
  libtorchStep,
  {
    name: 'operators',
    inputs: operatorInputs,
    outputs: ({ out }) => operatorOutputs(out),
    async run(context) {
      await generateOperators(context);
      return 'generated';
    },
  },
  {
    name: 'addon',
    doing: 'compiling, which takes a minute or two',
    inputs: addonInputs,
    outputs: ({ out }) => addonOutputs(out),
    async run(context) {
      return `compiled, ${bytes(await buildAddon(context))}`;
    },
  },
  {
    name: 'TypeScript',
    inputs: typeScriptInputs,
    outputs: typeScriptOutputs,
    async run(context) {
      return `compiled, ${await compileTypeScript(context)} files`;
    },
  },
];
