import { request } from './api.js';

const AGAIN_MS = 2_000;

/** Calls `listener` with each event of a stream, by name, until `signal` is aborted; connects again where the stream ends. */
export async function follow(
  path: string,
  listener: (name: string, data: unknown) => void,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      for await (const { name, data } of eventsOf(await request(path, { signal }))) listener(name, data);
    } catch (error) {
      if (!signal.aborted) console.warn(error);
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

async function* eventsOf(response: Response): AsyncGenerator<{ name: string; data: unknown }> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (text + value).split('\n\n');
    text = parts.pop()!;
    for (const part of parts) {
      const [, name] = /^event: (.*)$/m.exec(part) ?? [];
      const [, data] = /^data: (.*)$/m.exec(part) ?? [];
      if (name !== undefined && data !== undefined) yield { name, data: JSON.parse(data) };
    }
  }
}
