export { ModelError } from './errors.js';
export { disposeNetwork, joinStateDicts, type Network, placeNetwork } from './network.js';
export { type Downsampling, type LastHead, SimCnn, type SimCnnOptions } from './simcnn.js';
export { Vgg11, type VggOptions } from './vgg.js';
