import type { JobRequest } from './job-input.js';
import type { ThreadBudget, Ticket } from './thread-budget.js';
import { type JobSchedule, TrainingJob } from './training-job.js';

/** A job's place in its queue. */
export class QueuePlace implements JobSchedule {
  readonly id: string;
  readonly priority: number;
  readonly threads: number;
  readonly directory: string | null;
  /** Whether the job was cancelled by whoever gave it to the queue, so that it is not to come back. */
  isGivenUp = false;
  readonly #budget: ThreadBudget;
  #ticket: Ticket | null = null;

  constructor(of: { id: string; priority: number; threads: number; directory: string | null; budget: ThreadBudget }) {
    this.id = of.id;
    this.priority = of.priority;
    this.threads = of.threads;
    this.directory = of.directory;
    this.#budget = of.budget;
  }

  enter(start: () => void): void {
    this.#ticket = { priority: this.priority, threads: this.threads, start };
    this.#budget.enter(this.#ticket);
  }

  leave(): void {
    this.#budget.leave(this.#ticket);
  }

  /** How many jobs start before it; null where it does not wait. */
  get position(): number | null {
    return this.#budget.positionOf(this.#ticket);
  }
}

/** A job of a JobQueue: a TrainingJob that waits for its turn first, and again after a pause. */
export class QueuedJob extends TrainingJob {
  readonly #place: QueuePlace;

  /** @internal */
  constructor(request: JobRequest, place: QueuePlace) {
    super(request, place);
    this.#place = place;
  }

  /** Its name in its queue, also after the queue was opened again. */
  get id(): string {
    return this.#place.id;
  }

  /** Jobs of a higher priority start first. */
  get priority(): number {
    return this.#place.priority;
  }

  /** The threads that it computes on, whatever else the queue does: they decide the last bits of its result. */
  get threads(): number {
    return this.#place.threads;
  }

  /** The run directory that it is to make or to go on in; null where it gets its name when the run begins. */
  get directory(): string | null {
    return this.#place.directory;
  }

  /** How many jobs start before it; null where it does not wait. */
  get position(): number | null {
    return this.#place.position;
  }

  /** As of TrainingJob; the job does not come back where its queue is opened again. One that waits has written nothing. */
  override async cancel(): Promise<void> {
    this.#place.isGivenUp = true;
    await super.cancel();
  }

  /** As of TrainingJob; as after `cancel` the job does not come back. */
  override async terminate(): Promise<void> {
    this.#place.isGivenUp = true;
    await super.terminate();
  }

  /**
   * As `cancel`, or at once as `terminate`, of a job that may come back.
   * @internal
   */
  async stopForNow(how?: { atOnce: boolean }): Promise<void> {
    await this.stop(how);
  }
}
