// The service's routes, as the page uses them. All paths are relative to the page.

/** A run in a list, as GET /runs gives it. */
export interface Run {
  readonly id: string;
  readonly state: string;
  readonly preset: string;
  readonly model: string;
  readonly dataset: string;
  readonly startedAt: string | null;
  readonly layersDone: number;
  readonly testTop1: number | null;
  readonly ensembleTop1: number | null;
  readonly progress: Progress | null;
  readonly error: { readonly code: string; readonly message: string } | null;
}

export interface Progress {
  readonly layer: number;
  readonly epoch: number;
  readonly loss: number | null;
  readonly imagesPerSecond: number;
  readonly stepsDone: number;
  readonly stepsTotal: number;
}

/** What the head of a layer says of an image. */
export interface LayerAnswer {
  readonly layer: number;
  readonly predictions: readonly { readonly class: string; readonly probability: number }[];
}

/** An image of the test part, and what each layer takes it for. */
export interface TestImage {
  readonly index: number;
  readonly class: string;
  readonly layers: readonly { readonly layer: number; readonly class: string; readonly probability: number }[];
}

/** The service refused: its message is for people. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const TOKEN = 'layerwise-token';

export const rememberToken = (token: string): void => sessionStorage.setItem(TOKEN, token);

export const hasToken = (): boolean => sessionStorage.getItem(TOKEN) !== null;

function headers(given: Record<string, string> = {}): Record<string, string> {
  const token = sessionStorage.getItem(TOKEN);
  return token === null ? given : { ...given, authorization: `Bearer ${token}` };
}

/** Throws Refused, and TypeError where the service cannot be reached. */
export async function request(
  path: string,
  init: RequestInit & { headers?: Record<string, string> } = {},
): Promise<Response> {
  const response = await fetch(path, { ...init, headers: headers(init.headers) });
  if (response.ok) return response;
  const answer = (await response.json().catch(() => ({}))) as { message?: string };
  throw new Refused(response.status, answer.message ?? `the service answered ${response.status}`);
}

export const get = async <T>(path: string): Promise<T> => (await request(path)).json() as Promise<T>;

export async function post<T>(path: string, body: unknown = {}): Promise<T> {
  const response = await request(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return response.json() as Promise<T>;
}

export async function classify(id: string, image: Blob): Promise<readonly LayerAnswer[]> {
  const response = await request(`runs/${id}/classify?layer=every&top=3`, {
    method: 'POST',
    headers: { 'content-type': image.type || 'application/octet-stream' },
    body: image,
  });
  return ((await response.json()) as { layers: readonly LayerAnswer[] }).layers;
}

/** An image of the service, as an address for `img`: a browser sends no token with one. */
export async function picture(path: string): Promise<string> {
  return URL.createObjectURL(await (await request(path)).blob());
}

/** A chart, as a part of the page. */
export async function chart(path: string): Promise<Element> {
  const text = await (await request(`${path}&standalone=false`)).text();
  return document.importNode(new DOMParser().parseFromString(text, 'text/html').body.firstElementChild!, true);
}

/** Saves a file of the service under a name. */
export async function save(path: string, name: string): Promise<void> {
  const link = document.createElement('a');
  link.href = await picture(path);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
