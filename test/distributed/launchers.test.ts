// What launchers say, by the variables that they set; and torchrun itself.
import { execFile, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { DistributedError, type Launch, readLaunch, type Variables } from '../../lib/distributed/index.js';
import { pythonCommand, pythonMissing } from '../support/python.js';
import { freePort } from './ranks.js';

/** As torchrun 2.13 sets them for the second of four processes, two on each of two machines. */
const torchrun = {
  ...{ RANK: '1', WORLD_SIZE: '4', LOCAL_RANK: '1', LOCAL_WORLD_SIZE: '2', GROUP_RANK: '0' },
  ...{ MASTER_ADDR: 'node01', MASTER_PORT: '29400', TORCHELASTIC_RUN_ID: 'none' },
  ...{ TORCHELASTIC_USE_AGENT_STORE: 'True', TORCHELASTIC_RESTART_COUNT: '2' },
};
/** As srun sets them for the third of four tasks, on two machines. */
const slurm = {
  ...{ SLURM_JOB_ID: '4711', SLURM_STEP_ID: '0', SLURM_PROCID: '2', SLURM_LOCALID: '0', SLURM_NODEID: '1' },
  ...{ SLURM_NTASKS: '4', SLURM_STEP_NUM_TASKS: '4', SLURM_NNODES: '2' },
  ...{ SLURM_JOB_NODELIST: 'node[03-06]', SLURM_STEP_NODELIST: 'node[05-06]', SLURM_NODELIST: 'node[03-06]' },
};
/** As Open MPI's mpirun sets them for the first of two processes on one machine. */
const openMpi = {
  ...{ OMPI_COMM_WORLD_RANK: '0', OMPI_COMM_WORLD_SIZE: '2', OMPI_COMM_WORLD_LOCAL_RANK: '0' },
  ...{
    OMPI_COMM_WORLD_LOCAL_SIZE: '2',
    OMPI_COMM_WORLD_NODE_RANK: '0',
    PMIX_NAMESPACE: 'prterun-node-77@1',
    PMIX_RANK: '0',
  },
};
/** As MPICH's mpiexec sets them for the second of two processes on one machine. */
const mpich = {
  ...{ PMI_RANK: '1', PMI_SIZE: '2', PMI_FD: '9', MPI_LOCALNRANKS: '2', MPI_LOCALRANKID: '1' },
};

const without = (variables: Variables, ...names: string[]): Variables =>
  Object.fromEntries(Object.entries(variables).filter(([name]) => !names.includes(name)));

describe('a launcher is known by its variables', () => {
  it.each<[string, Variables, Launch]>([
    [
      'torchrun, whose agent serves the store and may start the processes again',
      torchrun,
      {
        ...{ launcher: 'torchrun', rank: 1, worldSize: 4, localRank: 1, masterAddress: 'node01', masterPort: 29_400 },
        ...{ hostsStore: false, storePrefix: 'attempt-2', restarts: 2, mostRestarts: 0 },
      },
    ],
    [
      'torchrun, rank 0: the store is its agent’s all the same',
      { ...torchrun, RANK: '0', LOCAL_RANK: '0' },
      {
        ...{ launcher: 'torchrun', rank: 0, worldSize: 4, localRank: 0, masterAddress: 'node01', masterPort: 29_400 },
        ...{ hostsStore: false, storePrefix: 'attempt-2', restarts: 2, mostRestarts: 0 },
      },
    ],
    [
      'the same variables set by hand: rank 0 serves the store, at PyTorch’s port',
      { RANK: '0', WORLD_SIZE: '2', LOCAL_RANK: '0', MASTER_ADDR: '10.0.0.1' },
      {
        ...{ launcher: 'torchrun', rank: 0, worldSize: 2, localRank: 0, masterAddress: '10.0.0.1', masterPort: 29_500 },
        ...{ hostsStore: true, storePrefix: '', restarts: 0, mostRestarts: 0 },
      },
    ],
    [
      'srun, on the machines of its step',
      { ...slurm, MASTER_PORT: '12345' },
      {
        ...{ launcher: 'slurm', rank: 2, worldSize: 4, localRank: 0, masterAddress: 'node05', masterPort: 12_345 },
        ...{ hostsStore: false, storePrefix: '', restarts: 0, mostRestarts: 0 },
      },
    ],
    [
      'mpirun of Open MPI',
      { ...openMpi, MASTER_PORT: '12345' },
      {
        ...{
          launcher: 'open-mpi',
          rank: 0,
          worldSize: 2,
          localRank: 0,
          masterAddress: '127.0.0.1',
          masterPort: 12_345,
        },
        ...{ hostsStore: true, storePrefix: '', restarts: 0, mostRestarts: 0 },
      },
    ],
    [
      'mpiexec of MPICH',
      mpich,
      {
        ...{ launcher: 'mpich', rank: 1, worldSize: 2, localRank: 1, masterAddress: '127.0.0.1', masterPort: 29_500 },
        ...{ hostsStore: false, storePrefix: '', restarts: 0, mostRestarts: 0 },
      },
    ],
  ])('%s', (_, variables, expected) => {
    expect(readLaunch(variables)).toEqual(expected);
  });

  it('the inner one counts, where one starts another', () => {
    // srun starts torchrun on each machine.
    const bySrun = { ...slurm, SLURM_STEP_NUM_TASKS: '2', SLURM_PROCID: '1', ...torchrun, RANK: '3' };
    expect(readLaunch(bySrun)).toMatchObject({ launcher: 'torchrun', rank: 3, worldSize: 4 });
    // mpirun starts its helpers by srun, whose variables its processes inherit.
    expect(readLaunch({ ...slurm, ...openMpi })).toMatchObject({ launcher: 'open-mpi', rank: 0, worldSize: 2 });
    // srun gives PMI-2 to what is linked with MPICH.
    const pmi2 = { ...slurm, PMI_RANK: '2', PMI_SIZE: '4' };
    expect(readLaunch(pmi2)).toEqual(readLaunch(slurm));
    // MPICH's own mpiexec starts its helpers by srun.
    expect(readLaunch({ ...slurm, ...mpich })).toMatchObject({
      launcher: 'mpich',
      rank: 1,
      worldSize: 2,
      localRank: 1,
    });
  });

  it('there is none without them, in a batch script of Slurm’s, or where they are empty', () => {
    expect(readLaunch({ PATH: '/bin', MASTER_ADDR: 'a', MASTER_PORT: '1', LOCAL_RANK: '3' })).toBeNull();
    expect(readLaunch(without(slurm, 'SLURM_STEP_ID', 'SLURM_STEP_NUM_TASKS'))).toBeNull();
    expect(readLaunch({ RANK: '', WORLD_SIZE: ' ' })).toBeNull();
  });

  it('a world of one needs no address', () => {
    expect(readLaunch({ RANK: '0', WORLD_SIZE: '1' })).toMatchObject({ masterAddress: '127.0.0.1', localRank: 0 });
  });

  it.each([
    ['node1', 'node1'],
    ['node1,node2', 'node1'],
    ['node[03-05,9],gpu1', 'node03'],
    ['rack[1-2]node[07-08]', 'rack1node07'],
    ['a-[2,5-6].cluster,b', 'a-2.cluster'],
  ])('Slurm’s list %s begins with %s', (list, first) => {
    expect(readLaunch({ ...slurm, SLURM_STEP_NODELIST: list })?.masterAddress).toBe(first);
  });

  it('the ports of two jobs on one machine differ, and are the same for all ranks of one', () => {
    const portOf = (variables: Variables): number => readLaunch(variables)!.masterPort;
    const first = portOf(slurm);
    expect(portOf({ ...slurm, SLURM_PROCID: '0' })).toBe(first);
    expect(portOf({ ...slurm, SLURM_JOB_ID: '4712' })).not.toBe(first);
    expect(portOf({ ...slurm, SLURM_STEP_ID: '1' })).not.toBe(first);
    expect(portOf({ ...openMpi, PMIX_NAMESPACE: 'prterun-node-78@1' })).not.toBe(portOf(openMpi));
    for (let job = 0; job < 200; job++) {
      const port = portOf({ ...slurm, SLURM_JOB_ID: String(job) });
      expect(port).toBeGreaterThanOrEqual(10_000);
      expect(port).toBeLessThan(30_000);
    }
  });
});

describe('variables that cannot be meant are refused', () => {
  it.each<[Variables, string]>([
    [without(torchrun, 'WORLD_SIZE'), 'RANK is set, but WORLD_SIZE is not; unset it where no launcher is meant'],
    [without(torchrun, 'RANK'), 'WORLD_SIZE is set, but RANK is not'],
    [without(torchrun, 'LOCAL_RANK'), 'RANK is set, but LOCAL_RANK is not, as torchrun sets it'],
    [without(torchrun, 'MASTER_ADDR'), 'MASTER_ADDR is not set'],
    [without(slurm, 'SLURM_STEP_NUM_TASKS'), 'SLURM_PROCID is set, but SLURM_STEP_NUM_TASKS is not'],
    [without(openMpi, 'OMPI_COMM_WORLD_SIZE'), 'OMPI_COMM_WORLD_RANK is set, but OMPI_COMM_WORLD_SIZE is not'],
    [without(mpich, 'PMI_RANK'), 'PMI_SIZE is set, but PMI_RANK is not'],
    [{ ...torchrun, RANK: '4' }, 'expected an integer from 0 to 3 for RANK, got "4"'],
    [{ ...torchrun, RANK: '-1' }, 'expected an integer from 0 to 3 for RANK, got "-1"'],
    [{ ...torchrun, RANK: '1e0' }, 'for RANK, got "1e0"'],
    [{ ...torchrun, WORLD_SIZE: 'four' }, 'expected an integer from 1 to 65536 for WORLD_SIZE, got "four"'],
    [{ ...torchrun, WORLD_SIZE: '0' }, 'for WORLD_SIZE, got "0"'],
    [{ ...torchrun, LOCAL_RANK: '7' }, 'expected an integer from 0 to 3 for LOCAL_RANK, got "7"'],
    [{ ...torchrun, MASTER_PORT: '70000' }, 'expected an integer from 1 to 65535 for MASTER_PORT, got "70000"'],
    [{ ...slurm, SLURM_STEP_NODELIST: '[' }, 'expected a list of machines'],
    [{ ...openMpi, OMPI_COMM_WORLD_LOCAL_SIZE: '1' }, 'MASTER_ADDR is not set: expected the address of rank 0'],
    [
      { ...openMpi, RANK: '1', WORLD_SIZE: '2', LOCAL_RANK: '1', MASTER_ADDR: 'a' },
      'RANK and WORLD_SIZE say rank 1 of 2, but open-mpi started this process as rank 0 of 2',
    ],
    [
      { ...slurm, RANK: '2', WORLD_SIZE: '8', LOCAL_RANK: '1', MASTER_ADDR: 'a' },
      'RANK and WORLD_SIZE say rank 2 of 8, but slurm started this process as rank 2 of 4',
    ],
  ])('%j', (variables, message) => {
    expect(() => readLaunch(variables)).toThrow(DistributedError);
    expect(() => readLaunch(variables)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    expect(() => readLaunch(variables)).toThrow(message);
  });
});

describe('launchers themselves start two processes that form a sum', () => {
  const program = [process.execPath, fileURLToPath(new URL('programs/launched-sum.mjs', import.meta.url))];
  const sumBy = async (command: string, args: readonly string[]): Promise<string[]> => {
    const { stdout } = await promisify(execFile)(command, [...args, ...program], { timeout: 50_000 });
    return stdout.trim().split('\n').sort();
  };
  const sums = ['{"rank":0,"sum":3}', '{"rank":1,"sum":3}'];
  const versionOf = (command: string): string => spawnSync(command, ['--version'], { encoding: 'utf8' }).stdout ?? '';

  it.skipIf(pythonMissing !== null)('torchrun', async () => {
    const master = ['--master-addr', '127.0.0.1', '--master-port', String(await freePort())];
    const args = ['-m', 'torch.distributed.run', '--no-python', '--nproc-per-node', '2', ...master];
    expect(await sumBy(pythonCommand, args)).toEqual(sums);
  });

  it.runIf(versionOf('mpirun').includes('Open MPI'))("Open MPI's mpirun", async () => {
    expect(await sumBy('mpirun', ['--allow-run-as-root', '--oversubscribe', '-np', '2'])).toEqual(sums);
  });

  it.runIf(versionOf('mpiexec.hydra').includes('HYDRA'))("MPICH's mpiexec", async () => {
    const port = ['-genv', 'MASTER_PORT', String(await freePort())];
    expect(await sumBy('mpiexec.hydra', ['-launcher', 'fork', ...port, '-np', '2'])).toEqual(sums);
  });
});
