// What the processes of a run do together before its first step: they meet, hold one run directory, and hear of each other's failures.
import { DistributedError } from '../distributed/index.js';
import { RunDirectory, TemporaryFolder } from '../run/index.js';
import { type Device, decodingThreads, setDecodingThreads } from '../tensor/index.js';
import { TrainingInterrupted } from './errors.js';
import { holdUnlessAborted, type Interruption, unlessInterrupted } from './interruption.js';
import { Peers } from './peers.js';
import type { RunOptions, TrainingOutcome } from './run-options.js';

/** What a run is trained under, beside its options. */
export interface RunConditions {
  readonly interruption: Interruption;
  readonly peers: Peers;
}

/** Joins the run's group, where there is one, and leaves it in the end. */
export async function withPeers(
  { group, device, signal }: Pick<RunOptions, 'group' | 'signal'> & { device: Device },
  interruption: Interruption,
  work: (peers: Peers) => Promise<TrainingOutcome>,
): Promise<TrainingOutcome> {
  if (group === undefined) return work(Peers.none);
  const joining = Peers.join(group, device);
  const peers = await unlessInterrupted(interruption, () => joining).catch((error: unknown) => {
    // The others are not to wait for one that has given up.
    void joining.then((late) => late.leave()).catch(() => {});
    throw error;
  });
  const threads = decodingThreads();
  if (peers.processors !== null) setDecodingThreads(peers.processors);
  try {
    return await work(peers);
  } catch (error) {
    // All of them stop, or hear of it.
    if (!(error instanceof TrainingInterrupted)) await peers.giveUp(error);
    // Who was told to stop, while others were, too, may only see that they are gone.
    throw signal?.aborted === true && error instanceof DistributedError ? interruption.error() : error;
  } finally {
    if (peers.processors !== null) setDecodingThreads(threads);
    await peers.leave();
  }
}

/** Does the work while rank 0 holds the directory; where it cannot, all are told. */
export async function holdTogether<T>(
  directory: RunDirectory,
  { interruption, peers }: RunConditions,
  work: () => Promise<T>,
): Promise<T> {
  if (!peers.isFirst) {
    await peers.byFirst(async () => {});
    return work();
  }
  let isHeld = false;
  const hold = (): Promise<T> =>
    holdUnlessAborted(directory, interruption, async () => {
      isHeld = true;
      await peers.byFirst(async () => {});
      return work();
    });
  return hold().catch((error: unknown) => {
    if (isHeld) throw error;
    return peers.byFirst(() => Promise.reject(error));
  });
}

/** The directory of rank 0, or what stands for it where another process writes it. */
export async function withDirectory<T>(
  peers: Peers,
  open: () => Promise<RunDirectory>,
  work: (directory: RunDirectory) => Promise<T>,
): Promise<T> {
  let own: RunDirectory | null = null;
  const path = await peers.byFirst(async () => {
    own = await open();
    return own.path;
  });
  if (own !== null) return work(own);
  using folder = new TemporaryFolder();
  return await work(RunDirectory.besideWriter(path, folder.path));
}
