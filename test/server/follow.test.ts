// Server-sent events, over connections that end in all ways.
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { EventStream } from '../../lib/server/event-stream.js';
import type { TrainingRuns as TrainingRunsType } from '../../lib/server/training-runs.js';
import { temporaryFolder } from '../training/runs.js';
import { built, type Client, endless, hasStepped, serviceOf } from './services.js';

const { TrainingRuns } = await built<{ TrainingRuns: typeof TrainingRunsType }>('./training-runs.js');

const { follow, followRun } = TrainingRuns.prototype;
const unspied = { follow, followRun };
afterEach(() => vi.restoreAllMocks());

const at = temporaryFolder();

interface Told {
  readonly name: string;
  readonly data: Record<string, unknown>;
}

/** A service that listens, and the number of those who follow it. */
async function listening(runs: string): Promise<{ client: Client; port: number; followers: () => number }> {
  const follow = vi.spyOn(TrainingRuns.prototype, 'follow');
  const client = await serviceOf(runs);
  const port = await client.listen();
  // The metrics listen, too.
  const followers = (): number => (follow.mock.contexts.at(-1) as TrainingRunsType).listenerCount('run') - 1;
  return { client, port, followers };
}

async function open(port: number, path: string): Promise<IncomingMessage> {
  const asked = request({ port, host: '127.0.0.1', path }).on('error', () => {});
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  return response.setEncoding('utf8');
}

/** The events of a stream, as the standard reads them. */
async function* eventsOf(response: IncomingMessage): AsyncGenerator<Told> {
  let text = '';
  for await (const part of response) {
    text += part;
    const whole = text.split('\n\n');
    text = whole.pop()!;
    for (const event of whole) {
      if (event.startsWith(':')) continue;
      const [, name, data] = /^event: (\w+)\ndata: (.*)$/.exec(event)!;
      yield { name: name!, data: JSON.parse(data!) };
    }
  }
}

async function next(events: AsyncGenerator<Told>, test: (told: Told) => boolean): Promise<Told> {
  for (;;) {
    const { value, done } = await events.next();
    if (done) return expect.fail('the stream ended first');
    if (test(value)) return value;
  }
}

describe('a run', () => {
  it('is followed from how it stands to its end, without a word of where it lies', async () => {
    const runs = at('whole');
    const { client, port } = await listening(runs);
    await client.start({ id: 'before', recipe: endless });
    await client.start({ id: 'one' });
    const response = await open(port, '/runs/one/events');
    expect(response.headers).toMatchObject({ 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    const events = eventsOf(response);
    const told = [(await events.next()).value as Told];
    expect(told[0]).toMatchObject({ name: 'run', data: { id: 'one', state: 'queued' } });
    await client.post('/runs/before/cancel');
    for await (const event of events) {
      told.push(event);
      if (event.data.state === 'finished') break;
    }
    const names = told.map(({ name }) => name);
    expect(names[1]).toBe('state');
    expect(names.filter((name) => name === 'step')).toHaveLength(8);
    expect(names.filter((name) => ['start', 'epoch', 'layer', 'done'].includes(name))).toEqual([
      ...['start', 'epoch', 'layer', 'epoch', 'layer', 'done'],
    ]);
    expect(told.flatMap(({ data: { state } }) => (state === undefined ? [] : [state]))).toEqual([
      'queued',
      'running',
      'finished',
    ]);
    expect(JSON.stringify(told)).not.toContain(runs);
  });

  it('of which there is none is no stream', async () => {
    const { port } = await listening(at('none'));
    const response = await open(port, '/runs/none/events');
    expect(response.statusCode).toBe(404);
  });
});

describe('who follows', () => {
  it('all runs is told of the states and the epochs of each', async () => {
    const { client, port } = await listening(at('all'));
    const events = eventsOf(await open(port, '/events'));
    expect((await events.next()).value).toEqual({ name: 'open', data: {} });
    await client.start({ id: 'one' });
    await client.start({ id: 'two' });
    const told: string[] = [];
    await next(events, ({ name, data }) => {
      told.push(name === 'state' ? `${data.id} ${data.state}` : `${data.id} ${name} ${data.layer}`);
      return data.id === 'two' && data.state === 'finished';
    });
    // Where nothing else is trained it has no time to wait.
    const of = (id: string) => told.filter((one) => one.startsWith(id) && !one.endsWith('queued'));
    for (const id of ['one', 'two']) {
      expect(of(id)).toEqual([...[`${id} running`, `${id} epoch 0`, `${id} epoch 1`, `${id} finished`]]);
    }
  });

  it('and goes leaves no listener behind, also before an answer came', async () => {
    const { client, port, followers } = await listening(at('goes'));
    await client.start({ id: 'one', recipe: endless });
    await client.until('one', hasStepped);
    const responses = await Promise.all(['/events', '/runs/one/events', '/events'].map((path) => open(port, path)));
    await expect.poll(followers).toBe(3);
    for (const response of responses) response.destroy();
    await expect.poll(followers).toBe(0);

    for (const [name, path] of [
      ['follow', '/events'],
      ['followRun', '/runs/one/events'],
    ] as const) {
      const gone = new Promise((resolve) => {
        client.app.server.once('connection', (socket) => socket.once('close', resolve));
      });
      const socket = connect(port, '127.0.0.1', () => socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`));
      await new Promise<void>((resolve) => {
        vi.spyOn(TrainingRuns.prototype, name).mockImplementationOnce(async function (
          this: TrainingRunsType,
          ...of: unknown[]
        ) {
          socket.destroy();
          await gone;
          await (unspied[name] as (...of: unknown[]) => unknown).apply(this, of);
          resolve();
        });
      });
    }
    expect((await client.get('/runs/one')).status).toBe(200);
    await expect.poll(followers).toBe(0);
  });

  it('is told the end where the app is closed, and no one may follow it then', async () => {
    const { client, port } = await listening(at('closing'));
    const events = eventsOf(await open(port, '/events'));
    await events.next();
    const closed = client.app.close();
    expect((await events.next()).done).toBe(true);
    await closed;
  });
});

it('of followers there are so many and no more, and none when the service is being closed', async () => {
  const followed = vi.spyOn(TrainingRuns.prototype, 'follow');
  const client = await serviceOf(at('many'));
  // No one but its own: the service itself is asked over HTTP first.
  const response = await open(await client.listen(), '/events');
  const runs = followed.mock.contexts.at(-1) as TrainingRunsType;
  const streams = Array.from({ length: 999 }, () => new EventStream());
  for (const stream of streams) follow.call(runs, stream, () => {});
  expect(await client.get('/events')).toMatchObject({ status: 429, body: { code: 'FOLLOWERS' } });
  streams[0]!.stream.destroy();
  await once(streams[0]!.stream, 'close');
  const last = new EventStream();
  follow.call(runs, last, () => {});
  for (const stream of streams) stream.stream.resume();
  last.stream.resume();
  response.resume();
  await client.app.close();
  expect(() => follow.call(runs, new EventStream(), () => {})).toThrow(expect.objectContaining({ code: 'CLOSING' }));
  await expect.poll(() => runs.listenerCount('run')).toBe(1);
});

describe('a stream of events', () => {
  it('that nobody reads is cut off before it fills the memory', async () => {
    const events = new EventStream();
    const ended = vi.fn();
    events.onEnd(ended);
    let sent = 0;
    for (; sent < 100 && !events.stream.destroyed; sent++) events.send('epoch', { text: 'x'.repeat(2 ** 16) });
    expect([sent, events.stream.destroyed]).toEqual([16, true]);
    await expect.poll(() => ended.mock.calls.length).toBe(1);
    events.send('epoch', {});
    events.end();
    expect(events.stream.readableLength).toBeLessThan(2 ** 21);
  });

  it('takes nothing any more when it has ended, and its listeners are called once', async () => {
    const events = new EventStream();
    const ended = vi.fn();
    events.onEnd(ended);
    events.send('one', { text: 'a\nb' });
    events.end();
    events.send('two', {});
    events.end();
    const parts: unknown[] = [];
    for await (const part of events.stream) parts.push(String(part));
    expect(parts.join('')).toBe('event: one\ndata: {"text":"a\\nb"}\n\n');
    await expect.poll(() => ended.mock.calls.length).toBe(1);
  });

  it('sends a sign of life where nothing else is to be told', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    try {
      const events = new EventStream();
      vi.advanceTimersByTime(15_000);
      expect(String(events.stream.read())).toBe(': still here\n\n');
      events.stream.destroy();
      await once(events.stream, 'close');
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });
});
