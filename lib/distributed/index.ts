export { DistributedError, type DistributedErrorCode } from './errors.js';
export { type Launch, type Launcher, localVariables, readLaunch, type Variables } from './launchers.js';
export type { Backend, FileStore, JoinOptions, TcpStore } from './options.js';
export { joinGroup, type ProcessGroup } from './process-group.js';
