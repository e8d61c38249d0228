// What the addon was built with for several processes, and what the doctor says of it.
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { buildInfo } from '../../lib/tensor/index.js';
import { describeAddon } from '../../scripts/doctor/addon.mjs';
import { describeProcesses } from '../../scripts/doctor/processes.mjs';
import { addonPath } from '../../scripts/support/addon.mjs';

it('nothing of Gloo’s own types is compiled into the addon, whose layout could be that of another release', () => {
  expect(buildInfo().glooReason).toBe('');
  const addon = readFileSync(addonPath()!);
  expect(addon.includes('ProcessGroupGloo')).toBe(true);
  // As names of gloo:: are written in symbols, of functions, virtual tables and instances of templates.
  expect(addon.includes('N4gloo')).toBe(false);
});

it('the doctor forms a sum by Gloo, and says why it could not', async () => {
  const addon = await describeAddon(process.env);
  const { ncclReason } = buildInfo();
  expect(await describeProcesses(addon, process.env)).toEqual({ gloo: null, nccl: ncclReason || null });
  const env = { ...process.env, GLOO_SOCKET_IFNAME: 'none-of-this-name' };
  const { gloo } = await describeProcesses(addon, env);
  expect(gloo).toContain('could not be connected');
  expect(gloo).toContain('none-of-this-name');
});
