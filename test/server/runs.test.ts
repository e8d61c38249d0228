// What the service does with runs: starts, lists, pauses, resumes, stops, compares them and gives their files away.
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { layerwise } from '../cli/cli.js';
import { temporaryFolder } from '../training/runs.js';
import { endless, hasCheckpoint, hasStepped, isOver, type RunAnswer, serviceOf, tiny } from './services.js';

const at = temporaryFolder();

describe('a run', () => {
  it('is started, paused, gone on with, stopped with a checkpoint, gone on with, and finished', async () => {
    const client = await serviceOf(at('life'));
    const started = await client.start({ id: 'one', recipe: endless });
    expect(started).toMatchObject({ status: 201, body: { id: 'one', model: 'vgg11', dataset: 'shapes', error: null } });
    await client.until('one', hasStepped);

    expect(await client.post('/runs/one/pause')).toMatchObject({ status: 200, body: { state: 'paused' } });
    expect(hasCheckpoint(at('life/one'))).toBe(true);
    expect(await client.post('/runs/one/pause')).toMatchObject({ status: 200, body: { state: 'paused' } });
    expect((await client.post('/runs/one/resume')).status).toBe(200);
    await client.until('one', ({ state }) => state === 'running');

    expect(await client.post('/runs/one/cancel')).toMatchObject({
      status: 200,
      body: { state: 'cancelled', error: null },
    });
    for (const action of ['pause', 'cancel']) {
      expect(await client.post(`/runs/one/${action}`), action).toMatchObject({
        ...{ status: 409, body: { code: 'RUN_STATE', message: expect.stringContaining('run one is cancelled') } },
      });
    }
    expect((await client.post('/runs/one/resume')).status).toBe(200);
    await client.until('one', ({ state }) => state === 'running');
    expect((await client.post('/runs/one/cancel')).status).toBe(200);

    await client.finish('two');
    expect(await client.post('/runs/two/resume')).toMatchObject({ status: 409, body: { code: 'RUN_STATE' } });
    const { body } = await client.get('/runs');
    expect(body.map(({ id, state }: RunAnswer) => [id, state])).toEqual([
      ['two', 'finished'],
      ['one', 'cancelled'],
    ]);
  });

  it('that was stopped and finished by another program is finished', async () => {
    const client = await serviceOf(at('by-hand'));
    await client.start({ id: 'one', recipe: { ...tiny, training: { ...tiny.training, epochs: 40 } } });
    await client.until('one', hasStepped);
    expect((await client.post('/runs/one/cancel')).body.state).toBe('cancelled');
    expect(await layerwise(['train', '--resume', at('by-hand/one')])).toMatchObject({ code: 0 });
    expect((await client.get('/runs')).body).toMatchObject([{ id: 'one', state: 'finished' }]);
    expect((await client.get('/runs/one')).body).toMatchObject({ state: 'finished', layersDone: 2 });
    expect(await client.post('/runs/one/resume')).toMatchObject({ status: 409, body: { code: 'RUN_STATE' } });
  });

  it('waits for its turn, and ends without a trace where it is stopped before', async () => {
    const client = await serviceOf(at('turn'));
    await client.start({ id: 'first', recipe: endless });
    expect((await client.start({ id: 'second' })).body.state).toBe('queued');
    expect((await client.post('/runs/second/cancel')).body.state).toBe('cancelled');
    expect(existsSync(at('turn/second'))).toBe(false);
    expect(await client.post('/runs/second/resume')).toMatchObject({ status: 409, body: { code: 'RUN_STATE' } });
    // So its name is free.
    expect((await client.start({ id: 'second' })).status).toBe(201);
    await client.post('/runs/first/cancel');
    await client.until('second', ({ state }) => state === 'finished');
  });

  it('tells its epochs and its results, and not where its data lies', async () => {
    mkdirSync(at('data/none'), { recursive: true });
    const client = await serviceOf(at('told'), { dataRoot: at('data') });
    await client.finish('one', { recipe: { ...tiny, training: { ...tiny.training, epochs: 2 } } });
    const { body } = await client.get('/runs/one');
    const places = body.epochs.map(({ layer, epoch }: { layer: number; epoch: number }) => [layer, epoch]);
    expect(places).toEqual([
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ]);
    const recorded = readFileSync(at('told/one/metrics.jsonl'), 'utf8').trimEnd().split('\n');
    const accuracies = recorded.map((line) => JSON.parse(line).testTop1);
    expect(body.epochs.map(({ testTop1 }: { testTop1: number }) => testTop1)).toEqual(accuracies);
    expect(body.result.layers).toHaveLength(2);
    expect(body.classes).toHaveLength(10);

    await client.start({ id: 'bad', dataset: 'cifar10', recipe: { ...tiny, dataset: { dataDir: 'none' } } });
    const failed = await client.until('bad', isOver);
    expect(failed).toMatchObject({
      state: 'failed',
      error: { message: expect.stringContaining('no CIFAR-10 in none') },
    });
    expect(JSON.stringify(failed)).not.toContain(at(''));
  });

  it('takes layers of a finished one, and of no other', async () => {
    const client = await serviceOf(at('from'), { concurrency: 2 });
    await client.finish('base');
    const layers = { ...tiny, model: { width: 2, layers: 3 } };
    await client.finish('deeper', { recipe: layers, startFrom: { run: 'base', layers: 1 } });
    expect((await client.start({ startFrom: { run: 'none' } })).body.code).toBe('RUN_UNKNOWN');
    await client.start({ id: 'endless', recipe: endless });
    await client.until('endless', hasStepped);
    expect((await client.start({ id: 'early', startFrom: { run: 'endless' } })).body.code).toBe('RUN_NOT_FINISHED');
    expect((await client.get('/runs/early')).status).toBe(404);
  });
});

describe('how many layers are done', () => {
  it.each([
    ['those that were taken, which had other epochs', 'some', { run: 'base', layers: 1 }],
    ['those that were taken but the last, whose head is trained anew', 'all', { run: 'base' }],
  ])('counts %s', async (_, folder, startFrom) => {
    const client = await serviceOf(at(`taken/${folder}`));
    expect((await client.finish('base')).layersDone).toBe(2);
    await client.start({ id: 'next', startFrom, recipe: endless });
    for (const least of [1, 3]) {
      const run = await client.until('next', ({ epochs }) => (epochs as unknown[]).length >= least);
      expect([run.state, run.layersDone]).toEqual(['running', 1]);
    }
    await client.post('/runs/next/cancel');
  });
});

describe('a record', () => {
  /** Puts other text of the same length into a file, which then looks as it did. */
  const replaceUnseen = (file: string, [from, to]: readonly [string, string]): void => {
    const { atime, mtime } = statSync(file);
    const text = readFileSync(file, 'utf8');
    expect([text.includes(from), to.length]).toEqual([true, from.length]);
    writeFileSync(file, text.replaceAll(from, to));
    utimesSync(file, atime, mtime);
  };
  const dated = (file: string): void => utimesSync(file, 1_700_000_000, 1_700_000_000);

  it('is read again when a file of it has changed, and no other with it', async () => {
    const runs = at('reread');
    const client = await serviceOf(runs);
    for (const id of ['one', 'two']) {
      await client.finish(id);
      dated(join(runs, id, 'config.json'));
    }
    const told = async (): Promise<string[]> => {
      const { body } = await client.get('/runs');
      const list = body.map(({ id, preset }: RunAnswer) => `${id} ${preset}`).sort();
      const each = await Promise.all(['one', 'two'].map(async (id) => (await client.get(`/runs/${id}`)).body.preset));
      return [...list, ...each];
    };
    const [preset] = (await client.get('/runs')).body.map(({ preset }: { preset: string }) => preset);
    const other = preset.replace(/^./, 'X');
    expect(await told()).toEqual([`one ${preset}`, `two ${preset}`, preset, preset]);
    for (const id of ['one', 'two']) replaceUnseen(join(runs, id, 'config.json'), [`"${preset}"`, `"${other}"`]);
    expect(await told()).toEqual([`one ${preset}`, `two ${preset}`, preset, preset]);
    // Now it is seen, of one.
    utimesSync(join(runs, 'one', 'config.json'), 1_700_000_001, 1_700_000_001);
    expect(await told()).toEqual([`one ${other}`, `two ${preset}`, other, preset]);
  });

  it.each(['metrics.jsonl', 'result.json'])('is read again when %s has changed', async (name) => {
    const runs = at(`changed ${name}`);
    const client = await serviceOf(runs);
    await client.finish('one');
    expect((await client.get('/runs/one')).body.state).toBe('finished');
    writeFileSync(join(runs, 'one', name), '{ "layers": 1 }\n');
    for (const url of ['/runs/one', '/runs/one/charts/loss']) {
      expect(await client.get(url), url).toMatchObject({ status: 409, body: { code: 'RUN_DAMAGED' } });
    }
    expect((await client.get('/runs')).body).toMatchObject([{ id: 'one', error: { code: 'RUN_DAMAGED' } }]);
  });
});

describe('clients at once', () => {
  it('that start a run of one name get one run and one refusal', async () => {
    const client = await serviceOf(at('race'));
    const answers = await Promise.all([1, 2, 3].map(() => client.start({ id: 'one', recipe: endless })));
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409]);
    const refused = answers.find(({ status }) => status === 409)!;
    expect(refused.body).toEqual({ code: 'RUN_EXISTS', message: 'there is a run one already' });
    expect(await client.start({ id: 'one' })).toMatchObject({ status: 409 });
  });

  it('that name no run each get one of their own', async () => {
    const client = await serviceOf(at('unnamed'));
    const answers = await Promise.all([1, 2, 3].map(() => client.start({ recipe: endless })));
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201]);
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(3);
  });

  it('that go on with one run get it going once', async () => {
    const runs = at('resumes');
    const client = await serviceOf(runs);
    await client.start({ id: 'one', recipe: endless });
    await client.until('one', hasStepped);
    await client.post('/runs/one/cancel');
    const answers = await Promise.all([1, 2].map(() => client.post('/runs/one/resume')));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409]);
    expect(JSON.stringify(answers.map(({ body }) => body))).not.toContain(runs);

    await client.until('one', hasStepped);
    const mixed = await Promise.all(
      ['pause', 'resume', 'pause', 'cancel', 'resume'].map((a) => client.post(`/runs/one/${a}`)),
    );
    for (const { status } of mixed) expect([200, 409]).toContain(status);
    const { state } = await client.until('one', ({ state }) => state !== 'pausing');
    expect(['cancelled', 'queued', 'running', 'paused']).toContain(state);
  });

  it('that let too many wait are told to wait', async () => {
    const client = await serviceOf(at('many'), { maxQueued: 2 });
    await client.start({ id: 'running', recipe: endless });
    await client.until('running', hasStepped);
    const answers = await Promise.all([1, 2, 3, 4, 5].map((i) => client.start({ id: `run-${i}` })));
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 201, 429, 429, 429]);
    const refused = answers.find(({ status }) => status === 429)!;
    expect(refused).toMatchObject({ body: { code: 'QUEUE_FULL' }, headers: { 'retry-after': '1' } });
  });

  it('that let a paused one go on are told to wait, too', async () => {
    const client = await serviceOf(at('full'), { maxQueued: 2 });
    await client.start({ id: 'running', recipe: endless });
    await client.until('running', hasStepped);
    await client.start({ id: 'paused' });
    await client.post('/runs/paused/pause');
    for (const id of ['waiting', 'also-waiting']) expect((await client.start({ id })).status).toBe(201);
    expect(await client.post('/runs/paused/resume')).toMatchObject({ status: 429, body: { code: 'QUEUE_FULL' } });
    expect((await client.get('/runs/paused')).body.state).toBe('paused');
    await client.post('/runs/waiting/cancel');
    expect(await client.post('/runs/paused/resume')).toMatchObject({ status: 200, body: { state: 'queued' } });
  });

  it('that pause one after another can have as many paused as may wait', async () => {
    const client = await serviceOf(at('paused'), { maxQueued: 2 });
    await client.start({ id: 'running', recipe: endless });
    for (const id of ['one', 'two']) {
      expect((await client.start({ id })).status).toBe(201);
      expect((await client.post(`/runs/${id}/pause`)).body.state).toBe('paused');
    }
    expect(await client.start({ id: 'three' })).toMatchObject({ status: 429, body: { code: 'QUEUE_FULL' } });
    await client.post('/runs/one/cancel');
    expect((await client.start({ id: 'three' })).status).toBe(201);
  });
});

it('of runs that have ended, those are kept in mind that ended last', async () => {
  const client = await serviceOf(at('ended'));
  await client.start({ id: 'running', recipe: endless });
  for (let i = 0; i < 105; i++) {
    await client.start({ id: `run-${i}` });
    await client.post(`/runs/run-${i}/cancel`);
  }
  const ids = (await client.get('/runs')).body.map(({ id }: RunAnswer) => id).sort();
  expect(ids).toEqual(['running', ...Array.from({ length: 100 }, (_, i) => `run-${i + 5}`)].sort());
});

it('a run that needs more memory than there is fails before it begins', async () => {
  const client = await serviceOf(at('memory'));
  await client.start({ id: 'wide', recipe: { model: { width: 4096 } } });
  const { state, error } = await client.until('wide', isOver);
  expect([state, error!.message]).toEqual(['failed', expect.stringMatching(/needs about \d+ GiB of memory/)]);
});

describe('what lies in the folder of the runs', () => {
  it('and is damaged takes nothing from the list but itself', async () => {
    const runs = at('damaged');
    const client = await serviceOf(runs);
    await client.finish('good');
    mkdirSync(join(runs, 'bad'));
    writeFileSync(join(runs, 'bad', 'config.json'), '{ "package":');
    mkdirSync(join(runs, 'odd', 'config.json'), { recursive: true });
    mkdirSync(join(runs, 'empty'));
    const { status, body } = await client.get('/runs');
    expect(status).toBe(200);
    expect(body.map(({ id, state, error }: RunAnswer) => [id, state, error?.code]).sort()).toEqual([
      ['bad', 'failed', 'RUN_DAMAGED'],
      ['good', 'finished', undefined],
      ['odd', 'failed', 'RUN_DAMAGED'],
    ]);
    for (const id of ['bad', 'odd']) {
      for (const part of ['', '/report', '/test-images', '/charts/loss']) {
        const answer = await client.get(`/runs/${id}${part}`);
        expect(answer, `${id}${part}`).toMatchObject({ status: 409, body: { code: 'RUN_DAMAGED' } });
        expect(answer.body.message).not.toContain(runs);
      }
      expect((await client.post(`/runs/${id}/resume`)).status).toBe(409);
    }
    expect((await client.start({ id: 'empty' })).body.code).toBe('RUN_EXISTS');
  });

  it('and is deleted is gone for clients, too', async () => {
    const runs = at('deleted');
    const client = await serviceOf(runs);
    await client.finish('one');
    rmSync(join(runs, 'one'), { recursive: true });
    expect((await client.get('/runs')).body).toEqual([]);
    for (const part of ['', '/report', '/weights', '/events', '/charts/depth', '/test-images']) {
      expect(await client.get(`/runs/one${part}`), part).toMatchObject({ status: 404, body: { code: 'RUN_UNKNOWN' } });
    }
    expect(await client.classify('one', Buffer.from('x'))).toMatchObject({ status: 404 });
    await client.finish('one');
  });

  it('and is deleted while it is trained ends as a failure', async () => {
    const runs = at('undermined');
    const client = await serviceOf(runs);
    await client.start({ id: 'one', recipe: { ...tiny, training: { ...tiny.training, epochs: 200 } } });
    await client.until('one', hasStepped);
    // Moved first: files that the training writes meanwhile would keep a folder from being removed.
    renameSync(join(runs, 'one'), at('removed'));
    rmSync(at('removed'), { recursive: true });
    const { state, error } = await client.until('one', isOver);
    expect(state).toBe('failed');
    expect(error!.message).not.toContain(runs);
    await client.finish('two');
  });

  it('and leads out of it is no run', async () => {
    const runs = at('linked');
    const elsewhere = await serviceOf(at('elsewhere'));
    await elsewhere.finish('one');
    const client = await serviceOf(runs);
    await client.finish('own');
    symlinkSync(at('elsewhere/one'), join(runs, 'link'));
    symlinkSync(at('nowhere'), join(runs, 'broken'));
    expect((await client.get('/runs')).body.map(({ id }: RunAnswer) => id)).toEqual(['own']);
    for (const part of ['', '/report', '/weights'])
      expect((await client.get(`/runs/link${part}`)).status, part).toBe(404);
    for (const id of ['link', 'broken']) expect((await client.start({ id })).body.code, id).toBe('RUN_EXISTS');
    rmSync(join(runs, 'own', 'report.html'));
    symlinkSync('/etc/passwd', join(runs, 'own', 'report.html'));
    expect(await client.get('/runs/own/report')).toMatchObject({ status: 404, body: { code: 'FILE_UNKNOWN' } });
  });
});

describe('files and charts', () => {
  it('are those of the run directory', async () => {
    const runs = at('files');
    const client = await serviceOf(runs);
    await client.finish('one');
    for (const [name, file] of [
      ['report', 'report.html'],
      ['weights', 'model.safetensors'],
      ['heads', 'auxiliary-heads.safetensors'],
    ] as const) {
      const { status, bytes, headers } = await client.get(`/runs/one/${name}`);
      expect([name, status, bytes.equals(readFileSync(join(runs, 'one', file)))]).toEqual([name, 200, true]);
      expect(headers['content-length']).toBe(String(bytes.length));
      const head = await client.ask({ method: 'HEAD', url: `/runs/one/${name}` });
      expect(head).toMatchObject({ status: 200, body: '' });
      for (const header of ['content-length', 'content-type', 'content-disposition', 'x-content-type-options']) {
        expect(head.headers[header], header).toBe(headers[header]);
      }
    }
    const named = (await client.get('/runs/one/weights')).headers['content-disposition'];
    expect(named).toBe('attachment; filename="one-model.safetensors"');
    rmSync(join(runs, 'one', 'report.html'));
    expect((await client.get('/runs/one/report')).body.code).toBe('FILE_UNKNOWN');
  });

  it('are not read where their headers alone are asked for', async () => {
    const client = await serviceOf(at('heads'));
    await client.finish('one');
    const file = await open(at('heads/one/config.json'));
    const read = vi.spyOn(Object.getPrototypeOf(file), 'createReadStream');
    await file.close();
    onTestFinished(() => read.mockRestore());
    expect((await client.ask({ method: 'HEAD', url: '/runs/one/weights' })).status).toBe(200);
    expect(read).not.toHaveBeenCalled();
    expect((await client.get('/runs/one/weights')).status).toBe(200);
    expect(read).toHaveBeenCalledTimes(1);
    expect((await client.ask({ method: 'HEAD', url: '/runs/none/weights' })).status).toBe(404);
  });

  it('are drawn of runs that have just begun, that are finished, and of several', async () => {
    const client = await serviceOf(at('charts'));
    await client.finish('one');
    await client.finish('two');
    await client.start({ id: 'begun', recipe: endless });
    for (const id of ['one', 'begun']) {
      for (const chart of ['accuracy', 'loss', 'depth']) {
        const { status, headers, body } = await client.get(`/runs/${id}/charts/${chart}?width=400`);
        expect([status, headers['content-type']]).toEqual([200, 'image/svg+xml; charset=utf-8']);
        expect(body).toMatch(/^<svg[\s\S]*<\/svg>\s*$/);
      }
    }
    const { body } = await client.get('/compare?runs=one,two');
    expect([body.includes('one'), body.includes('two')]).toEqual([true, true]);
    for (const query of ['', '?runs=', '?runs=one,../x', `?runs=${Array(7).fill('one')}`, '?runs=one&width=99999']) {
      expect(await client.get(`/compare${query}`), query).toMatchObject({ status: 400 });
    }
    expect((await client.get('/compare?runs=one,none')).status).toBe(404);
    expect((await client.get('/runs/one/charts/other')).status).toBe(400);
  });

  it('by depth have a dot for each layer, also where epochs of layers that train at once come in turn', async () => {
    const client = await serviceOf(at('at-once'));
    await client.finish('one', {
      recipe: { ...tiny, training: { ...tiny.training, schedule: 'simultaneous', epochs: 2 } },
    });
    const lines = readFileSync(at('at-once/one/metrics.jsonl'), 'utf8').trimEnd().split('\n');
    const layers = new Set(lines.map((line) => JSON.parse(line).layer));
    expect(lines.length).toBeGreaterThan(layers.size);
    // Those of the legend have no title.
    const dotsOf = (svg: string): number => svg.match(/class="lw-mark[^>]*><title>/g)?.length ?? 0;
    const { body } = await client.get('/compare?runs=one');
    expect(dotsOf(body)).toBe(layers.size);
  });
});

it('an app that is closed stops its runs with checkpoints, and lets the folder go', async () => {
  const runs = at('closed');
  const client = await serviceOf(runs);
  await client.start({ id: 'one', recipe: endless });
  await client.until('one', hasStepped);
  await client.app.close();
  expect(hasCheckpoint(join(runs, 'one'))).toBe(true);
  await serviceOf(runs);
});

it('one folder is served by one service at a time', async () => {
  const runs = at('held');
  await serviceOf(runs);
  await expect(serviceOf(runs)).rejects.toMatchObject({ code: 'QUEUE_HELD' });
});
