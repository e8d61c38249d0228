import {
  chart,
  classify,
  get,
  type LayerAnswer,
  type Progress,
  picture,
  post,
  Refused,
  type Run,
  save,
  type TestImage,
} from './api.js';
import { element, fill, percent } from './elements.js';
import { follow } from './follow.js';
import { atMostEvery } from './pace.js';
import { progressBar, stateMark } from './run-parts.js';

/** An update takes four requests, and the service answers so many a minute, of all pages here. */
const PACE_MS = 2_000;

/** A run as it trains; finished, what its layers say of images. */
export async function showRun(main: Element, id: string, signal: AbortSignal): Promise<void> {
  const view = new RunView(id, signal);
  await view.update();
  fill(main, view.root);
  void follow(`runs/${id}/events`, (name, data) => view.take(name, data), signal);
}

const CONTROLS: Readonly<Record<string, { readonly label: string; readonly in: readonly string[] }>> = {
  pause: { label: 'Pause', in: ['running', 'queued'] },
  resume: { label: 'Go on', in: ['paused', 'interrupted', 'cancelled', 'failed'] },
  cancel: { label: 'Stop', in: ['running', 'queued', 'paused', 'pausing'] },
};

class RunView {
  readonly root = element('div', { class: 'run' });
  readonly #deck = element('p', { class: 'deck' });
  readonly #progress = element('div');
  readonly #lead = element('p', { class: 'lead' });
  readonly #actions = element('p', { class: 'actions' });
  readonly #failure = element('p', { class: 'problem' });
  readonly #figures = element('dl', { class: 'figures' });
  readonly #problem = element('p', { role: 'alert', class: 'problem' });
  readonly #charts = element('section', { class: 'charts' });
  readonly #images = element('section');
  #run!: Run;
  #shownState = '';
  #shownImages = false;
  /** Asks the service how the run stands. */
  readonly update = atMostEvery(PACE_MS, () => this.#ask());

  constructor(
    readonly id: string,
    readonly signal: AbortSignal,
  ) {
    const head = element('header', {});
    head.append(element('p', { class: 'kicker' }, element('a', { href: '#/' }, 'All runs')), element('h1', {}, id));
    head.append(this.#deck, this.#progress, this.#lead, this.#actions, this.#failure, this.#figures);
    this.root.append(head, this.#problem, this.#charts, this.#images);
  }

  take(name: string, data: unknown): void {
    if (name === 'step') {
      this.#run = { ...this.#run, progress: data as Progress };
      this.#showStep();
      return;
    }
    if (name === 'state' || name === 'run') this.#showRun(data as Partial<Run>);
    if (['epoch', 'state', 'run', 'done'].includes(name)) this.#look();
  }

  #look(): void {
    this.update().catch((error) => this.#tell(error));
  }

  async #ask(): Promise<void> {
    if (this.signal.aborted) return;
    this.#showRun(await get<Run>(`runs/${this.id}`));
    await this.#showCharts();
    if (this.#run.state !== 'finished' || this.#shownImages) return;
    this.#shownImages = true;
    await this.#showImages();
  }

  /** With what is known anew. */
  #showRun(news: Partial<Run>): void {
    this.#run = { ...this.#run, ...news };
    this.#showHead();
  }

  #showHead(): void {
    const { state, model, dataset, testTop1, ensembleTop1, error } = this.#run;
    fill(this.#deck, stateMark(state), ` · ${model} on ${dataset}`);
    // A button must not be replaced while it is being pressed.
    if (state !== this.#shownState) this.#showActions(state);
    fill(this.#failure, error === null ? null : error.message);
    fill(
      this.#figures,
      figure('layer', 'top-1 of the last epoch', testTop1),
      figure('ensemble', 'ensemble of the layers', ensembleTop1),
    );
    this.#showStep();
  }

  #showStep(): void {
    fill(this.#progress, progressBar(this.#run));
    fill(this.#lead, this.#where());
  }

  #showActions(state: string): void {
    const controls = Object.entries(CONTROLS)
      .filter(([, control]) => control.in.includes(state))
      .map(([action, { label }]) => element('button', { type: 'button', click: () => void this.#act(action) }, label));
    const hadFocus = this.#actions.contains(document.activeElement);
    fill(this.#actions, ...controls, ...(state === 'finished' ? this.#files() : []));
    this.#shownState = state;
    // Whoever pressed a key stays where the next one is.
    if (hadFocus) this.#actions.querySelector('button')?.focus();
  }

  #where(): string {
    const { progress, state } = this.#run;
    if (progress === null || state === 'finished') return '';
    const { layer, epoch, loss, imagesPerSecond } = progress;
    const figures = loss === null ? '' : `, loss ${loss.toFixed(3)}`;
    return `layer ${layer + 1}, epoch ${epoch + 1}${figures}, ${Math.round(imagesPerSecond)} images a second`;
  }

  #files(): Element[] {
    const open = async (): Promise<void> => {
      const page = window.open('', '_blank');
      const address = await picture(`runs/${this.id}/report`);
      if (page !== null) page.location = address;
    };
    const download = (): Promise<void> => save(`runs/${this.id}/weights`, `${this.id}.safetensors`);
    const button = (label: string, act: () => Promise<void>): Element =>
      element('button', { type: 'button', click: () => void act().catch((error) => this.#tell(error)) }, label);
    return [button('Report', open), button('Weights', download)];
  }

  async #act(action: string): Promise<void> {
    try {
      fill(this.#problem);
      this.#showRun(await post<Run>(`runs/${this.id}/${action}`));
      await this.update();
    } catch (error) {
      this.#tell(error);
    }
  }

  #tell(error: unknown): void {
    if (!this.signal.aborted) fill(this.#problem, error instanceof Error ? error.message : String(error));
  }

  async #showCharts(): Promise<void> {
    const width = Math.round(Math.max(300, Math.min(920, this.root.clientWidth || 800)));
    const names = { depth: 'Accuracy by depth', accuracy: 'Accuracy, layer by layer', loss: 'Loss, layer by layer' };
    const figures = await Promise.all(
      Object.entries(names).map(async ([name, title]) =>
        element(
          'figure',
          {},
          element('figcaption', {}, title),
          await chart(`runs/${this.id}/charts/${name}?width=${width}`),
        ),
      ),
    );
    if (!this.signal.aborted) fill(this.#charts, ...figures);
  }

  async #showImages(): Promise<void> {
    fill(this.#images, element('p', { class: 'lead' }, 'Asking every layer about the test images …'));
    try {
      const images = await get<TestImage[]>(`runs/${this.id}/test-images`);
      const cards = await Promise.all(images.map((image) => this.#card(image)));
      fill(
        this.#images,
        this.#upload(),
        element('h2', {}, 'Where the network makes up its mind'),
        element(
          'p',
          { class: 'lead' },
          'Test images, and whether each layer’s head, from the first to the last, takes them for what they are.',
        ),
        element('ul', { class: 'test-images' }, ...cards),
      );
    } catch (error) {
      this.#shownImages = false;
      if (!(error instanceof Refused)) throw error;
      fill(this.#images, this.#upload(), element('p', { class: 'lead' }, `${error.message}.`));
    }
  }

  async #card({ index, class: truth, layers }: TestImage): Promise<Element> {
    const marks = layers.map(({ layer, class: taken, probability }) => {
      const isRight = taken === truth;
      const title = `layer ${layer + 1}: ${taken}, ${percent(100 * probability)}`;
      return element(
        'span',
        { class: isRight ? 'right' : 'wrong', title, 'aria-label': title, role: 'img' },
        isRight ? '✓' : '✗',
      );
    });
    const source = await picture(`runs/${this.id}/test-images/${index}`);
    const load = (): void => URL.revokeObjectURL(source);
    const image = element('img', { src: source, load, alt: `test image ${index}, ${truth}`, width: 64, height: 64 });
    return element('li', {}, image, element('p', {}, truth), element('p', { class: 'marks' }, ...marks));
  }

  #upload(): Element {
    const answer = element('div', { 'aria-live': 'polite', class: 'answer' });
    const take = async (file: File | undefined): Promise<void> => {
      if (file === undefined) return;
      try {
        fill(answer, element('p', { class: 'lead' }, 'Looking …'));
        showAnswer(answer, file, await classify(this.id, file));
      } catch (error) {
        fill(
          answer,
          element('p', { role: 'alert', class: 'problem' }, error instanceof Error ? error.message : String(error)),
        );
      }
    };
    const input = element('input', {
      type: 'file',
      accept: 'image/jpeg,image/png',
      change: () => void take(input.files?.[0]),
    });
    const drop = element(
      'label',
      {
        class: 'drop',
        dragover: (event) => event.preventDefault(),
        drop: (event) => {
          event.preventDefault();
          void take((event as DragEvent).dataTransfer?.files[0]);
        },
      },
      'An image of yours: choose a JPEG or PNG file, or drop it here',
      input,
    );
    return element('div', {}, element('h2', {}, 'Classify'), drop, answer);
  }
}

const figure = (kind: string, name: string, value: number | null): Element =>
  element('div', { class: kind }, element('dt', {}, name), element('dd', {}, percent(value)));

/** What each layer takes an image for, from the first to the last. */
function showAnswer(answer: Element, file: File, layers: readonly LayerAnswer[]): void {
  const src = URL.createObjectURL(file);
  const image = element('img', { src, load: () => URL.revokeObjectURL(src), alt: file.name, class: 'uploaded' });
  const rows = layers.map(({ layer, predictions }) =>
    element(
      'tr',
      {},
      element('th', { scope: 'row' }, `Layer ${layer + 1}`),
      ...predictions.map(({ class: name, probability }) =>
        element(
          'td',
          { class: 'text' },
          name,
          element('meter', { value: probability, 'aria-label': `probability of ${name}` }),
          percent(100 * probability),
        ),
      ),
    ),
  );
  fill(
    answer,
    image,
    element(
      'div',
      { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': 'what each layer says' },
      element('table', {}, element('tbody', {}, ...rows)),
    ),
  );
}
