// `layerwise serve` as a process: what signals make of it, and what another one goes on with.
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  askJson,
  endless,
  hasCheckpoint,
  hasStepped,
  isOver,
  type RunAnswer,
  tiny,
  untilRun,
} from '../server/services.js';
import { productOf } from '../training/runs.js';
import { type Ended, jsonLines, layerwise, servesSignals, start, temporaryFolder } from './cli.js';

const at = temporaryFolder();

/** A service in a process of its own. */
class Served {
  private constructor(
    readonly address: string,
    readonly process: ReturnType<typeof start>,
  ) {}

  static async by(flags: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Served> {
    const process = start(['serve', '--port', '0', '--threads', '1', ...flags], { env });
    onTestFinished(() => void process.process.kill('SIGKILL'));
    const { msg } = await process.line(({ msg }) => String(msg).startsWith('Server listening at'));
    return new Served(/http:\S+/.exec(String(msg))![0], process);
  }

  async ask(method: string, path: string, body?: object): Promise<{ status: number; body: RunAnswer }> {
    return askJson(`${this.address}${path}`, { method, body });
  }

  until(id: string, test: (run: RunAnswer) => boolean): Promise<RunAnswer> {
    return untilRun(async () => (await this.ask('GET', `/runs/${id}`)).body, test);
  }

  async end(signal: NodeJS.Signals): Promise<Ended> {
    this.process.process.kill(signal);
    return this.process.ended;
  }
}

const slow = { ...tiny, training: { ...tiny.training, epochs: 6 } };
const states = ({ body }: { body: unknown }): string[][] =>
  (body as RunAnswer[]).map(({ id, state }) => [id, state]).sort();

describe('a signal', () => {
  it('ends it with a checkpoint; what ran and what waited is listed as interrupted, and ends as a run alone', async () => {
    const runs = at('stopped');
    const first = await Served.by(['--runs', runs]);
    for (const id of ['one', 'waiting']) {
      expect((await first.ask('POST', '/runs', { id, dataset: 'shapes', recipe: slow })).status).toBe(201);
    }
    const given = await first.ask('POST', '/runs', { id: 'given-up', dataset: 'shapes', recipe: slow });
    expect(given.body.state).toBe('queued');
    await first.ask('POST', '/runs/given-up/cancel');
    const following = await fetch(`${first.address}/runs/one/events`);
    await first.until('one', hasStepped);
    const { code, stderr } = await first.end('SIGTERM');
    expect([code, stderr]).toEqual([130, 'layerwise: serve was stopped; what was being trained has a checkpoint\n']);
    await following.text().catch(() => {});
    expect(hasCheckpoint(join(runs, 'one'))).toBe(true);
    expect(existsSync(join(runs, 'queue.lock'))).toBe(false);

    const second = await Served.by(['--runs', runs]);
    expect(states(await second.ask('GET', '/runs'))).toEqual([
      ['one', 'interrupted'],
      ['waiting', 'interrupted'],
    ]);
    for (const id of ['one', 'waiting']) {
      expect((await second.ask('POST', `/runs/${id}/resume`)).status).toBe(200);
      expect(await second.until(id, isOver)).toMatchObject({ state: 'finished', error: null });
    }
    expect((await second.ask('POST', '/runs', { id: 'alone', dataset: 'shapes', recipe: slow })).status).toBe(201);
    await second.until('alone', isOver);
    for (const id of ['one', 'waiting']) expect(productOf(join(runs, id)), id).toEqual(productOf(join(runs, 'alone')));
    expect((await second.end('SIGINT')).code).toBe(130);
  });

  it.runIf(process.platform === 'linux').each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    '%s that comes before it listens ends it, and it never listens',
    async (signal) => {
      const runs = at(`early ${signal}`);
      const serving = start(['serve', '--port', '0', '--runs', runs]);
      onTestFinished(() => void serving.process.kill('SIGKILL'));
      await servesSignals(serving);
      serving.process.kill(signal);
      const { code, stdout, stderr } = await serving.ended;
      expect([code, stdout, stderr]).toEqual([130, '', expect.stringMatching(/^layerwise: serve was stopped.*\n$/)]);
      expect(existsSync(runs)).toBe(false);
    },
  );

  it('or a kill: with --resume-interrupted all goes on by itself but what a client had stopped or paused', async () => {
    const runs = at('killed');
    const first = await Served.by(['--runs', runs, '--concurrency', '1']);
    const start = (id: string, recipe: object) => first.ask('POST', '/runs', { id, dataset: 'shapes', recipe });
    for (const [id, action] of [
      ['stopped', 'cancel'],
      ['paused', 'pause'],
    ]) {
      await start(id!, endless);
      await first.until(id!, hasStepped);
      expect((await first.ask('POST', `/runs/${id}/${action}`)).status).toBe(200);
    }
    await start('one', { ...slow, training: { ...slow.training, epochs: 12 } });
    await start('two', slow);
    await first.until('one', hasStepped);
    expect((await first.end('SIGKILL')).code).toBe('SIGKILL');

    const second = await Served.by(['--runs', runs, '--resume-interrupted']);
    for (const id of ['one', 'two']) expect((await second.until(id, isOver)).state, id).toBe('finished');
    expect(states(await second.ask('GET', '/runs'))).toEqual([
      ['one', 'finished'],
      ['paused', 'interrupted'],
      ['stopped', 'interrupted'],
      ['two', 'finished'],
    ]);
    expect((await second.ask('POST', '/runs/stopped/resume')).status).toBe(200);
    await second.until('stopped', ({ state }) => state === 'running');
    expect((await second.ask('POST', '/runs/stopped/cancel')).body.state).toBe('cancelled');
  });
});

describe('other machines', () => {
  it('reach it only with a token, which no command line holds', async () => {
    for (const host of ['0.0.0.0', '::', '10.0.0.1', 'example.org']) {
      const { code, stderr } = await layerwise(['serve', '--runs', at('none'), '--host', host]);
      expect([code, stderr]).toEqual([2, expect.stringContaining(`--host ${host} can be reached from other machines`)]);
    }
    expect(existsSync(at('none'))).toBe(false);
    const short = await layerwise(['serve', '--runs', at('none')], { env: { LAYERWISE_TOKEN: 'short' } });
    expect([short.code, short.stderr]).toEqual([2, expect.stringContaining('token: expected at least 16 letters')]);
    const token = 'a-token-of-sixteen-characters-or-more';
    const served = await Served.by(['--runs', at('token'), '--host', '0.0.0.0'], { LAYERWISE_TOKEN: token });
    expect((await served.ask('GET', '/runs')).status).toBe(401);
    const authorized = await fetch(`${served.address}/runs`, { headers: { authorization: `Bearer ${token}` } });
    expect(await authorized.json()).toEqual([]);
    const { stdout } = await served.end('SIGTERM');
    expect(jsonLines(stdout).length).toBeGreaterThan(2);
    expect(stdout).not.toContain(token);
  });

  it('do not make a browser here reach it under another name', async () => {
    const served = await Served.by(['--runs', at('names')]);
    const { port } = new URL(served.address);
    const ask = async (host: string): Promise<number> => {
      const asked = request({ host: '127.0.0.1', port, path: '/runs', headers: { host } });
      asked.end();
      const [response] = await once(asked, 'response');
      response.resume();
      return response.statusCode;
    };
    for (const host of [`localhost:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`, 'localhost']) {
      expect(await ask(host), host).toBe(200);
    }
    for (const host of [`evil.example:${port}`, 'localhost.evil.example']) expect(await ask(host), host).toBe(421);
  });
});

it('a folder that another one serves, and a port that is taken, are told in one line', async () => {
  const served = await Served.by(['--runs', at('held')]);
  const second = await layerwise(['serve', '--runs', at('held'), '--port', '0']);
  expect([second.code, second.stderr]).toEqual([
    1,
    expect.stringMatching(/^layerwise: .*another queue has this folder.*\n$/),
  ]);
  const { port } = new URL(served.address);
  const third = await layerwise(['serve', '--runs', at('other'), '--port', port]);
  expect([third.code, third.stderr]).toEqual([1, expect.stringMatching(/^layerwise: .*EADDRINUSE.*\n$/)]);
  expect(readFileSync(at('held/queue.lock'), 'utf8')).not.toBe('');
});
