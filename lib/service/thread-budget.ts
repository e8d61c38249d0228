// Which of the jobs that wait may start: in order, at most so many at once, on the threads that are free.

/** A job that waits for its turn, or computes. */
export interface Ticket {
  readonly priority: number;
  readonly threads: number;
  readonly start: () => void;
}

/** How many jobs compute at once, and on how many threads in all. */
export interface BudgetLimits {
  readonly concurrency: number;
  readonly threads: number;
}

/**
 * Jobs in the order of their priority, and of their coming. None overtakes another that waits for more threads than are free: a
 * large job would wait for ever behind small ones.
 */
export class ThreadBudget {
  readonly #limits: BudgetLimits;
  readonly #running = new Set<Ticket>();
  #waiting: Ticket[] = [];
  #isHalted = false;

  constructor(limits: BudgetLimits) {
    this.#limits = limits;
  }

  /** The threads of a job that names none: the same whatever else there is to do, since they decide bits. */
  get share(): number {
    return Math.floor(this.#limits.threads / this.#limits.concurrency);
  }

  /** Of all jobs together. */
  get threads(): number {
    return this.#limits.threads;
  }

  enter(ticket: Ticket): void {
    const at = this.#waiting.findIndex(({ priority }) => priority < ticket.priority);
    this.#waiting.splice(at < 0 ? this.#waiting.length : at, 0, ticket);
    this.#startNext();
  }

  /** The ticket waits or computes no longer, if it did. */
  leave(ticket: Ticket | null): void {
    this.#waiting = this.#waiting.filter((one) => one !== ticket);
    if (ticket !== null) this.#running.delete(ticket);
    this.#startNext();
  }

  /** How many start before it; null where it does not wait. */
  positionOf(ticket: Ticket | null): number | null {
    const position = ticket === null ? -1 : this.#waiting.indexOf(ticket);
    return position < 0 ? null : position;
  }

  /** Starts none until `work` is done. */
  async halt(work: () => Promise<void>): Promise<void> {
    this.#isHalted = true;
    try {
      await work();
    } finally {
      this.#isHalted = false;
      this.#startNext();
    }
  }

  #startNext(): void {
    while (!this.#isHalted && this.#waiting.length > 0 && this.#hasRoomFor(this.#waiting[0]!)) {
      const next = this.#waiting.shift()!;
      this.#running.add(next);
      // Not in the middle of what another job does, which a listener that throws would break off.
      queueMicrotask(() => {
        if (this.#running.has(next)) next.start();
      });
    }
  }

  #hasRoomFor({ threads }: Ticket): boolean {
    const used = [...this.#running].reduce((sum, ticket) => sum + ticket.threads, 0);
    return this.#running.size < this.#limits.concurrency && used + threads <= this.#limits.threads;
  }
}
