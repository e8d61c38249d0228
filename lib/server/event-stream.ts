// Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html
import { Readable } from 'node:stream';

/** Proxies close connections that are silent for a minute or less. */
const HEARTBEAT_MS = 15_000;

/** What a follower may leave unread before it is cut off; it may connect again and is told how things stand. */
const MOST_UNREAD_BYTES = 2 ** 20;

/** A stream of events for one follower, as text. */
export class EventStream {
  readonly stream: Readable;
  readonly #heartbeat: NodeJS.Timeout;
  #hasEnded = false;

  constructor() {
    this.stream = new Readable({ read: () => {}, highWaterMark: MOST_UNREAD_BYTES });
    this.#heartbeat = setInterval(() => this.#push(': still here\n\n'), HEARTBEAT_MS);
    this.#heartbeat.unref();
    this.stream.once('close', () => clearInterval(this.#heartbeat));
  }

  /** Calls `listener` once, when the follower has gone or the stream was ended. */
  onEnd(listener: () => void): void {
    this.stream.once('close', listener);
  }

  send(event: string, data: unknown): void {
    this.#push(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  /** What has been sent is still read; nothing more is. */
  end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.stream.push(null);
  }

  #push(text: string): void {
    if (this.stream.destroyed || this.#hasEnded) return;
    this.stream.push(text);
    if (this.stream.readableLength > MOST_UNREAD_BYTES) this.stream.destroy();
  }
}
