// Which rank of how many a launcher made this process, from the variables that it sets.
import { DistributedError } from './errors.js';

/** What started this process: torchrun, or whatever sets the same variables; Open MPI's mpirun; MPICH's mpiexec (Hydra); Slurm's srun. */
export type Launcher = 'torchrun' | 'open-mpi' | 'mpich' | 'slurm';

/** A process's place among those that were started together, and where they meet. */
export interface Launch {
  readonly launcher: Launcher;
  /** From 0. */
  readonly rank: number;
  readonly worldSize: number;
  /** Among the processes of its machine, from 0: the GPU that it takes. */
  readonly localRank: number;
  readonly masterAddress: string;
  readonly masterPort: number;
  /** Whether this process serves the store at the master's address; else rank 0, or the launcher itself, does. */
  readonly hostsStore: boolean;
  /** Before the keys of a store that outlives the processes, as torchrun's does when it starts them again; else empty. */
  readonly storePrefix: string;
  /** How often the launcher has started the processes again, and how often it would at most; 0 where it does not say. */
  readonly restarts: number;
  readonly mostRestarts: number;
}

/** Environment variables, such as `process.env`. */
export type Variables = Readonly<Record<string, string | undefined>>;

/** PyTorch's, for who names no port. */
const DEFAULT_PORT = 29_500;
/** Ports that are derived from a job's name: below those that Linux gives to connections (32768 on). */
const FIRST_DERIVED_PORT = 10_000;
const DERIVED_PORTS = 20_000;

interface Place {
  readonly launcher: Launcher;
  readonly rank: number;
  readonly worldSize: number;
  readonly localRank: number;
}

/** A launcher's variables of this process's place. */
interface Names {
  readonly launcher: Launcher;
  readonly rank: string;
  readonly worldSize: string;
  /** Where it is not set it is 0 for a world of one process. */
  readonly localRank: string;
}

/** The inner launcher comes first: torchrun is started by srun or mpirun on each machine, and mpirun starts its helpers by srun. */
const LAUNCHERS: readonly Names[] = [
  { launcher: 'torchrun', rank: 'RANK', worldSize: 'WORLD_SIZE', localRank: 'LOCAL_RANK' },
  {
    ...{ launcher: 'open-mpi', rank: 'OMPI_COMM_WORLD_RANK', worldSize: 'OMPI_COMM_WORLD_SIZE' },
    localRank: 'OMPI_COMM_WORLD_LOCAL_RANK',
  },
  { launcher: 'mpich', rank: 'PMI_RANK', worldSize: 'PMI_SIZE', localRank: 'MPI_LOCALRANKID' },
  { launcher: 'slurm', rank: 'SLURM_PROCID', worldSize: 'SLURM_STEP_NUM_TASKS', localRank: 'SLURM_LOCALID' },
];

const refuse = (problem: string): DistributedError =>
  new DistributedError({ code: 'INVALID_ARGUMENT', operation: 'launcher', problem });

/** Empty is as good as unset. */
const textOf = (variables: Variables, name: string): string | undefined => variables[name]?.trim() || undefined;

function integerOf(variables: Variables, name: string, from: number, to: number): number {
  const text = textOf(variables, name);
  const value = text !== undefined && /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= from && value <= to) return value;
  throw refuse(`expected an integer from ${from} to ${to} for ${name}, got ${JSON.stringify(text ?? '')}`);
}

/**
 * The place of this process among those that a launcher started, or null where none did. Throws DistributedError (INVALID_ARGUMENT)
 * where the variables are there in part, are no numbers, or contradict each other.
 *
 * A batch script of Slurm's is no task of srun's: there it is null. Under mpirun on several machines MASTER_ADDR must name that of rank 0;
 * under srun it is the first of the job's machines, unless MASTER_ADDR says otherwise. Without MASTER_PORT the port is derived from the
 * job's name, where it has one.
 */
export function readLaunch(variables: Variables): Launch | null {
  const places = LAUNCHERS.filter((names) => isUsed(names, variables)).map((names) => placeOf(names, variables));
  const place = places[0];
  if (place === undefined) return null;
  // torchrun runs within other launchers; the same variables set by hand should say what those say.
  if (place.launcher === 'torchrun' && textOf(variables, 'TORCHELASTIC_RUN_ID') === undefined) {
    for (const other of places) requireSame(place, other);
  }
  const isAgents = textOf(variables, 'TORCHELASTIC_USE_AGENT_STORE')?.toLowerCase() === 'true';
  const isOfAgent = place.launcher === 'torchrun' && isAgents;
  const counter = {
    torchrun: 'TORCHELASTIC_RESTART_COUNT',
    slurm: 'SLURM_RESTART_COUNT',
    'open-mpi': null,
    mpich: null,
  };
  const name = counter[place.launcher];
  const restarts = name === null ? 0 : countOf(variables, name);
  return {
    ...place,
    masterAddress: addressOf(place, variables),
    masterPort: portOf(place, variables),
    hostsStore: place.rank === 0 && !isOfAgent,
    storePrefix: isOfAgent ? `attempt-${restarts}` : '',
    ...{ restarts, mostRestarts: place.launcher === 'torchrun' ? countOf(variables, 'TORCHELASTIC_MAX_RESTARTS') : 0 },
  };
}

/** torchrun's agent alone sets these. */
const OF_AGENT = ['RUN_ID', 'USE_AGENT_STORE', 'RESTART_COUNT', 'MAX_RESTARTS'].map((name) => `TORCHELASTIC_${name}`);

/**
 * The variables of a process that is to be one of `worldSize` on this machine, by which `readLaunch` knows it: as torchrun sets them, and
 * those of the launcher that started this process, as for a job of one task, left out.
 */
export function localVariables(
  variables: Variables,
  { rank, worldSize, masterPort }: Pick<Launch, 'rank' | 'worldSize' | 'masterPort'>,
): Variables {
  const others = new Set([
    ...LAUNCHERS.flatMap((names) => [names.rank, names.worldSize, names.localRank]),
    ...OF_AGENT,
  ]);
  return {
    ...Object.fromEntries(Object.entries(variables).filter(([name]) => !others.has(name))),
    ...{ RANK: String(rank), WORLD_SIZE: String(worldSize) },
    ...{ LOCAL_RANK: String(rank), LOCAL_WORLD_SIZE: String(worldSize) },
    ...{ MASTER_ADDR: '127.0.0.1', MASTER_PORT: String(masterPort) },
  };
}

const countOf = (variables: Variables, name: string): number =>
  isSet(variables, name) ? integerOf(variables, name, 0, 1_000_000) : 0;

function isUsed({ launcher, rank, worldSize }: Names, variables: Variables): boolean {
  // A batch script has a number, and no step.
  const isStep = isSet(variables, 'SLURM_STEP_ID');
  if (launcher === 'slurm') return isStep && isSet(variables, rank);
  // srun with PMI-2 sets these, too; MPICH's own mpiexec always the number within a machine.
  if (launcher === 'mpich' && isStep && !isSet(variables, 'MPI_LOCALRANKID')) return false;
  return isSet(variables, rank) || isSet(variables, worldSize);
}

const isSet = (variables: Variables, name: string): boolean => textOf(variables, name) !== undefined;

function placeOf(names: Names, variables: Variables): Place {
  const { launcher, rank, worldSize } = names;
  const missing = [rank, worldSize].filter((name) => !isSet(variables, name));
  if (missing.length > 0) {
    const there = [rank, worldSize].find((name) => isSet(variables, name));
    throw refuse(`${there} is set, but ${missing.join(' and ')} is not; unset it where no launcher is meant`);
  }
  const size = integerOf(variables, worldSize, 1, 65_536);
  return {
    ...{ launcher, worldSize: size },
    rank: integerOf(variables, rank, 0, size - 1),
    localRank: localRankOf(names, size, variables),
  };
}

function localRankOf({ launcher, localRank, rank }: Names, worldSize: number, variables: Variables): number {
  if (isSet(variables, localRank)) return integerOf(variables, localRank, 0, worldSize - 1);
  if (worldSize === 1) return 0;
  throw refuse(`${rank} is set, but ${localRank} is not, as ${launcher} sets it`);
}

function requireSame(place: Place, other: Place): void {
  if (place.rank === other.rank && place.worldSize === other.worldSize) return;
  const shown = ({ rank, worldSize }: Place): string => `rank ${rank} of ${worldSize}`;
  throw refuse(
    `RANK and WORLD_SIZE say ${shown(place)}, but ${other.launcher} started this process as ${shown(other)}; unset the ones not meant`,
  );
}

function addressOf({ launcher, worldSize }: Place, variables: Variables): string {
  const named = textOf(variables, 'MASTER_ADDR');
  if (named !== undefined) return named;
  const here = '127.0.0.1';
  if (worldSize === 1) return here;
  const lists = ['SLURM_STEP_NODELIST', 'SLURM_JOB_NODELIST', 'SLURM_NODELIST'];
  const list = lists.map((name) => textOf(variables, name)).find((one) => one !== undefined);
  // mpiexec within an allocation of Slurm's inherits the list.
  if (list !== undefined && (launcher === 'slurm' || launcher === 'mpich')) return firstHost(list);
  const inMachine = { 'open-mpi': 'OMPI_COMM_WORLD_LOCAL_SIZE', mpich: 'MPI_LOCALNRANKS', torchrun: null, slurm: null }[
    launcher
  ];
  if (inMachine !== null && textOf(variables, inMachine) === String(worldSize)) return here;
  throw refuse(
    `MASTER_ADDR is not set: expected the address of rank 0's machine, since ${worldSize} processes are to meet there`,
  );
}

/** The first of a list as Slurm writes it: `rack[1-2]node[03-05,9],gpu1` begins with rack1node03. */
function firstHost(list: string): string {
  const first = /^(?:[^,[\]]|\[[^\]]*\])+/.exec(list)?.[0] ?? '';
  const host = first.replaceAll(/\[(\d+)[^\]]*\]/g, '$1');
  if (host !== '' && !/[[\]]/.test(host)) return host;
  throw refuse(`expected a list of machines, such as node[01-04], in SLURM_STEP_NODELIST, got ${JSON.stringify(list)}`);
}

function portOf({ launcher }: Place, variables: Variables): number {
  if (isSet(variables, 'MASTER_PORT')) return integerOf(variables, 'MASTER_PORT', 1, 65_535);
  if (launcher === 'torchrun') return DEFAULT_PORT;
  // Two jobs on one machine are to have two ports.
  const step = ['SLURM_JOB_ID', 'SLURM_STEP_ID'].map((name) => textOf(variables, name) ?? '').join('.');
  const job = { 'open-mpi': textOf(variables, 'PMIX_NAMESPACE'), mpich: undefined, slurm: step }[launcher];
  return job === undefined ? DEFAULT_PORT : FIRST_DERIVED_PORT + (digest(job) % DERIVED_PORTS);
}

/** FNV-1a, 32 bits. */
function digest(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}
