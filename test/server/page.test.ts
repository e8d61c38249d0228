// The page, in a browser.
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from '../training/runs.js';
import { type Client, endless, hasStepped, isOver, openService, picture, tiny } from './services.js';

const CHROMIUM = process.env.LAYERWISE_TEST_CHROMIUM ?? '/usr/bin/chromium';
const hasChromium = existsSync(CHROMIUM);
if (!hasChromium) console.log(`there is no ${CHROMIUM} (LAYERWISE_TEST_CHROMIUM): the tests in a browser are skipped`);

const at = temporaryFolder();
const FLAGS = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  ...['--disable-component-update', '--disable-sync'],
];

const LONG = 'a-name-that-is-far-too-long-for-the-width-of-a-phone-and-has-no-spaces';

describe.skipIf(!hasChromium)('the page', () => {
  let browser: Browser;
  let client: Client;
  let address: string;

  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
    client = await openService(at('runs'), { prefix: '/training', requestsPerMinute: 100_000 });
    address = `http://127.0.0.1:${await client.listen()}/training`;
    await client.finish('first');
    await client.finish('second', { recipe: { ...tiny, seed: 1 } });
    await client.finish(LONG);
  });

  afterAll(async () => {
    await browser?.close();
    await client?.app.close();
  });

  /** A page that must not complain. */
  async function open(hash = '', options: BrowserContextOptions = {}): Promise<Page> {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    const complaints: string[] = [];
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(String(error)));
    onTestFinished(async () => {
      await context.close();
      expect(complaints).toEqual([]);
    });
    await page.goto(`${address}/${hash}`);
    return page;
  }

  const chartsOf = (page: Page): Promise<string> => page.locator('.charts').innerHTML();
  const state = (page: Page, name: string) => page.locator(`.deck .state.${name}`).waitFor({ timeout: 50_000 });

  it('starts a run by its form, shows how its curves grow, pauses it, goes on with it, stops it', async () => {
    const page = await open();
    await page.getByRole('link', { name: 'Train a network' }).click();
    await page.getByLabel('Data set').selectOption('shapes');
    for (const [label, value] of [
      ['Width', '2'],
      ['Epochs a layer', '1000'],
      ['Training images', '60'],
      ['Test images', '20'],
      ['Name', 'mine'],
    ] as const) {
      await page.getByLabel(label, { exact: true }).fill(value);
    }
    await page.getByRole('button', { name: 'Train' }).click();
    await page.getByRole('heading', { name: 'mine' }).waitFor();
    await state(page, 'running');
    const seen = new Set<string>();
    await expect.poll(async () => seen.add(await chartsOf(page)).size, { timeout: 50_000 }).toBeGreaterThanOrEqual(3);
    for (const chart of seen) expect(chart).toContain('<svg');
    await page.getByText(/layer 1, epoch \d+, loss \d/).waitFor();

    await page.getByRole('button', { name: 'Pause' }).click();
    await state(page, 'paused');
    expect(await page.getByRole('button').allTextContents()).toEqual(['Go on', 'Stop']);
    await page.getByRole('button', { name: 'Go on' }).click();
    await state(page, 'running');
    await page.getByRole('button', { name: 'Stop' }).click();
    await state(page, 'cancelled');
    expect((await client.get('/runs/mine')).body.state).toBe('cancelled');
    await page.reload();
    await page.getByRole('button', { name: 'Go on' }).click();
    await state(page, 'running');
    await page.getByRole('button', { name: 'Stop' }).click();
    await state(page, 'cancelled');
  });

  it('stays with a run until it is finished, and classifies an image by every layer', async () => {
    const page = await open('#/start');
    await client.start({ id: 'followed', recipe: { ...tiny, training: { ...tiny.training, epochs: 3 } } });
    await page.goto(`${address}/#/runs/followed`);
    await state(page, 'finished');
    expect(await page.getByRole('button').allTextContents()).toEqual(['Report', 'Weights']);
    await page.locator('.test-images li').nth(19).waitFor();
    expect(await page.locator('.test-images li').count()).toBe(20);
    expect(await page.locator('.test-images li').first().locator('.marks span').count()).toBe(2);
    const loaded = await page
      .locator('.test-images img')
      .evaluateAll((images) => images.every((image) => 'naturalWidth' in image && image.naturalWidth === 32));
    expect(loaded).toBe(true);

    const file = at('stripes.png');
    writeFileSync(file, await picture().png().toBuffer());
    await page.locator('input[type=file]').setInputFiles(file);
    await page.locator('.answer table').waitFor();
    expect(await page.locator('.answer th').allTextContents()).toEqual(['Layer 1', 'Layer 2']);
    const { layers } = (await client.classify('followed', await picture().png().toBuffer(), { query: '?layer=every' }))
      .body;
    const likeliest = await page.locator('.answer tr td:nth-of-type(1)').allTextContents();
    for (const [i, { predictions }] of layers.entries()) expect(likeliest[i]).toContain(predictions[0].class);
  });

  it('leaves most of the requests a minute that the service answers to others, however fast a run tells', async () => {
    const page = await open();
    for (const [id, hash] of [
      ['fast', '#/runs/fast'],
      ['fast-too', '#/'],
    ] as const) {
      await client.start({ id, recipe: endless });
      await client.until(id, hasStepped);
      await page.goto(`${address}/${hash}`);
      await page
        .getByText('Top-1')
        .or(page.getByText(/layer 1, epoch/))
        .first()
        .waitFor();
      const asked: string[] = [];
      const count = (request: { url(): string }): void => void asked.push(request.url());
      page.on('request', count);
      const before = (await client.get(`/runs/${id}`)).body.epochs.length;
      await page.waitForTimeout(6_000);
      page.off('request', count);
      expect((await client.get(`/runs/${id}`)).body.epochs.length - before, id).toBeGreaterThan(30);
      // A fifth of 600 a minute each, and those of one moment.
      expect(asked.length, hash).toBeLessThanOrEqual(12 + 4);
      expect(asked.length, hash).toBeGreaterThan(2);
      await client.post(`/runs/${id}/cancel`);
      await client.until(id, isOver);
    }
  });

  it('asks for the test images again where they were refused before', async () => {
    const page = await open();
    page.removeAllListeners('console');
    let refused = 0;
    await page.route('**/runs/first/test-images', (route) => {
      refused++;
      return refused === 1
        ? route.fulfill({ status: 429, json: { code: 'RATE', message: 'expected at most 600 requests a minute' } })
        : route.continue();
    });
    let events = 0;
    // Its end has the page look again, as a connection that was lost.
    await page.route('**/runs/first/events', (route) => {
      events++;
      const run = 'event: run\ndata: {}\n\n';
      return route.fulfill({ headers: { 'content-type': 'text/event-stream' }, body: events > 3 ? '' : run });
    });
    await page.goto(`${address}/#/runs/first`);
    await page.getByText('expected at most 600 requests a minute').waitFor();
    await page.locator('.test-images li').first().waitFor({ timeout: 20_000 });
  });

  it('says why runs cannot be compared', async () => {
    const page = await open();
    await client.finish('passing');
    await page.getByLabel('compare passing').waitFor();
    rmSync(at('runs/passing'), { recursive: true });
    page.removeAllListeners('console');
    await page.getByLabel('compare passing').check();
    await page.getByRole('alert').filter({ hasText: 'there is no run passing' }).waitFor();
  });

  it('gives the report and the weights of a finished run', async () => {
    const page = await open('#/runs/first');
    const [report] = await Promise.all([
      page.waitForEvent('popup'),
      page.getByRole('button', { name: 'Report' }).click(),
    ]);
    await report.getByRole('heading').first().waitFor();
    expect(await report.locator('svg').count()).toBeGreaterThan(0);
    const [weights] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Weights' }).click(),
    ]);
    expect(weights.suggestedFilename()).toBe('first.safetensors');
  });

  it('says in words what is not taken: a recipe, an image', async () => {
    const page = await open('#/start');
    await page.getByLabel('Name', { exact: true }).fill('unwanted');
    await page.getByLabel('Folder of the data').fill('../elsewhere');
    // What is refused is told by the browser's console, too.
    page.removeAllListeners('console');
    await page.getByRole('button', { name: 'Train' }).click();
    await page.getByRole('alert').filter({ hasText: 'dataset.dataDir' }).waitFor();
    await page.goto(`${address}/#/runs/first`);
    const file = at('text.png');
    writeFileSync(file, 'no image');
    await page.locator('input[type=file]').setInputFiles(file);
    await page.getByRole('alert').filter({ hasText: 'expected a JPEG or PNG image' }).waitFor();
  });

  it('compares runs in one chart, and keeps the choice while the list changes', async () => {
    const page = await open();
    for (const id of ['first', 'second']) await page.getByLabel(`compare ${id}`).check();
    await expect.poll(() => page.locator('section svg').count()).toBe(1);
    await expect.poll(() => page.locator('section svg').innerHTML()).toContain('second');
    expect(await page.locator('section svg').innerHTML()).toContain('first');
    await client.finish('third');
    await page.getByRole('link', { name: 'third' }).waitFor();
    for (const id of ['first', 'second']) expect(await page.getByLabel(`compare ${id}`).isChecked()).toBe(true);
    await page.getByLabel('compare first').uncheck();
    await expect.poll(() => page.locator('section svg').innerHTML()).not.toContain('first');
  });

  it('is used by the keyboard alone, also while figures move', async () => {
    const page = await open();
    const focused = (): Promise<string> => page.evaluate<string>('document.activeElement.textContent');
    const tabTo = async (name: string): Promise<void> => {
      for (let i = 0; i < 60 && (await focused()) !== name; i++) await page.keyboard.press('Tab');
      expect(await focused()).toBe(name);
    };
    await tabTo('Train a network');
    await page.keyboard.press('Enter');
    await page.getByLabel('Preset').waitFor();
    await tabTo('Train');
    const outline = await page.evaluate<string>('getComputedStyle(document.activeElement).outlineStyle');
    expect(outline).toBe('solid');

    await client.start({ id: 'keys', recipe: endless });
    await page.goto(`${address}/#/runs/keys`);
    await state(page, 'running');
    await tabTo('Pause');
    const before = await chartsOf(page);
    await expect.poll(() => chartsOf(page), { timeout: 50_000 }).not.toBe(before);
    expect(await focused()).toBe('Pause');
    await page.keyboard.press('Enter');
    await state(page, 'paused');
    expect(await focused()).toBe('Go on');
    await page.keyboard.press('Enter');
    await state(page, 'running');
    await page.goto(`${address}/#/`);
    await page.getByRole('link', { name: 'keys' }).focus();
    const bar = page.getByLabel('progress of keys');
    const progress = await bar.getAttribute('value');
    await expect.poll(() => bar.getAttribute('value'), { timeout: 50_000 }).not.toBe(progress);
    expect(await focused()).toBe('keys');
    await client.post('/runs/keys/cancel');
    await client.until('keys', isOver);
  });

  it.each([360, 1280])('fits into a width of %d, light and dark', async (width) => {
    const grounds = new Set<string>();
    for (const colorScheme of ['light', 'dark'] as const) {
      const page = await open('', { viewport: { width, height: 800 }, colorScheme });
      for (const hash of ['#/', '#/start', '#/runs/first']) {
        await page.goto(`${address}/${hash}`);
        if (hash === '#/') for (const id of ['first', LONG]) await page.getByLabel(`compare ${id}`).check();
        if (hash === '#/runs/first') await page.locator('.test-images li').first().waitFor();
        await page
          .locator(hash === '#/start' ? 'form' : 'svg')
          .first()
          .waitFor();
        // Each cell below its column's name.
        const rights = await page
          .locator('.runs tr')
          .evaluateAll((rows) =>
            rows.map((row) => [...row.children].map((cell) => Math.round(cell.getBoundingClientRect().right)).join()),
          );
        expect(new Set(rights).size, hash).toBe(hash === '#/' ? 1 : 0);
        const overflow = await page.evaluate<number>('document.scrollingElement.scrollWidth - innerWidth');
        expect(overflow, `${hash} ${colorScheme}`).toBeLessThanOrEqual(0);
      }
      grounds.add(await page.evaluate<string>('getComputedStyle(document.body).backgroundColor'));
    }
    expect(grounds.size).toBe(2);
  });

  it('asks for the token where the service wants one', async () => {
    const token = 'a-token-of-sixteen-characters-or-more';
    const guarded = await openService(at('guarded'), { token });
    onTestFinished(() => guarded.app.close());
    const page = await open();
    page.removeAllListeners('console');
    await page.goto(`http://127.0.0.1:${await guarded.listen()}/`);
    await page.getByLabel('Token of the service').fill('wrong');
    expect(await page.getByRole('alert').count()).toBe(0);
    await page.getByRole('button', { name: 'Enter' }).click();
    await page.getByText('That is not the token of this service.').waitFor();
    await page.getByLabel('Token of the service').fill(token);
    await page.keyboard.press('Enter');
    await page.getByText('Nothing has been trained here yet.').waitFor();
  });
});
