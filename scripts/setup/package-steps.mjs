import { rmSync } from 'node:fs';
import { tryAddon } from '../doctor/addon.mjs';
import { readRecord } from '../libtorch/resolved.mjs';
import { compiledAddon } from '../support/addon.mjs';
import { SetupError } from '../support/errors.mjs';
import { bytes } from '../support/progress.mjs';
import { addonInputs, addonOutputs, buildAddon } from './addon.mjs';
import { installBuildTools } from './build-tools.mjs';
import { libtorchStep } from './libtorch-step.mjs';
import { findPrebuilt, installPrebuilt, prebuiltInputs, prebuiltOutputs, prebuiltPackage } from './prebuilt.mjs';
import { prerequisiteInputs, requirePrerequisites } from './prerequisites.mjs';
import { generateOperators } from './sources.mjs';
import { turboJpegStep } from './turbojpeg.mjs';

/** @import { Step, StepContext } from './steps.mjs' */

/**
 * What an installed package lacks: LibTorch, the addon where none came compiled, and TurboJPEG where none is there. All of it goes into
 * the cache folder.
 * @type {readonly Step[]}
 */
export const packageSteps = [
  {
    name: 'prerequisites',
    inputs: ({ env }) => [...prerequisiteInputs(env), ...prebuiltInputs()],
    outputs: () => [],
    async run({ env }) {
      if (findPrebuilt() !== undefined) return `Node ${process.versions.node}, ${prebuiltPackage}`;
      return `Node ${process.versions.node}, ${await requirePrerequisites(env)}, to compile the addon`;
    },
  },
  libtorchStep,
  {
    name: 'addon',
    inputs: (context) => [...prebuiltInputs(), ...addonInputs(context)],
    outputs: ({ out }) => [...prebuiltOutputs(out), ...addonOutputs(out)],
    async run(context) {
      const prebuilt = await installPrebuilt(context);
      if ('bytes' in prebuilt) return `prebuilt, ${bytes(prebuilt.bytes)}`;
      if (findPrebuilt() !== undefined)
        context.note(`${prebuiltPackage}: ${prebuilt.problem}; the addon is compiled instead`);
      return `compiled, ${bytes(await compile(context))}`;
    },
  },
  turboJpegStep,
];

/**
 * Compiles the addon, and tries it as a prebuilt one is tried.
 * @param {StepContext} context
 */
async function compile(context) {
  const { env, out, note, signal } = context;
  await requirePrerequisites(env);
  await installBuildTools(context);
  await generateOperators(context);
  note('compiling the addon, which takes a minute or two');
  const size = await buildAddon(context);
  const { problem, mend } = await tryAddon(compiledAddon(out), { env, libtorch: readRecord(out), signal });
  if (problem === undefined) return size;
  rmSync(compiledAddon(out));
  throw new SetupError('ADDON_DOES_NOT_LOAD', `the addon was compiled, but does not load: ${problem}`, { mend });
}
