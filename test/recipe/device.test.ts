import { describe, expect, it } from 'vitest';
import { deviceOfRecord, resolveDevice } from '../../lib/recipe/device.js';
import { buildInfo } from '../../lib/tensor/index.js';

const none = { cudaAvailable: false, cudaDeviceCount: 0, cudaReason: 'there is no NVIDIA driver' };
const two = { cudaAvailable: true, cudaDeviceCount: 2, cudaReason: '' };

describe('the device of a run', () => {
  it.each([
    ['auto', none, 'cpu'],
    ['auto', two, 'cuda:0'],
    ['cpu', two, 'cpu'],
    ['cuda', two, 'cuda:0'],
    ['cuda:1', two, 'cuda:1'],
  ])('%s, of %o, is %s', (requested, gpus, device) => {
    expect(resolveDevice(requested, { gpus })).toBe(device);
  });

  it.each([
    ['cuda', none, 'device: cuda was asked for, but there is no NVIDIA driver; npm run doctor says more'],
    ['cuda:0', none, 'device: cuda:0 was asked for, but there is no NVIDIA driver; npm run doctor says more'],
    ['cuda:2', two, 'device: cuda:2 was asked for, but there are 2 CUDA devices'],
  ])('%s, of %o, is refused: nothing takes its place', (requested, gpus, message) => {
    expect(() => resolveDevice(requested, { gpus })).toThrow(message);
  });

  it('is found on this machine', () => {
    const { cudaAvailable, cudaReason } = buildInfo();
    expect(resolveDevice('auto')).toBe(cudaAvailable ? 'cuda:0' : 'cpu');
    expect(cudaReason === '').toBe(cudaAvailable);
  });
});

it.each([
  ['cpu', two, 'cpu'],
  ['cuda:1', two, 'cuda:1'],
  ['cuda:2', two, 'cuda:0'],
  ['cuda:0', none, 'cpu'],
])('a finished run of %s is opened, of %o, on %s', (recorded, gpus, device) => {
  expect(deviceOfRecord(recorded, gpus)).toBe(device);
});
