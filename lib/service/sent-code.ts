// Modules of a network and data of one's own, on their way to a worker thread: a URL cannot be cloned, its address can.
import { isUrl, type OwnCode } from '../run/index.js';
import { shown } from '../schema.js';

/** Modules by their addresses. */
export type SentCode = Readonly<Partial<Record<keyof OwnCode, string>>>;

/** Throws what `refuse` makes where a module is given by anything but its URL. */
export function addressesOf(
  { network, data, module }: { readonly [Name in keyof OwnCode]?: unknown },
  refuse: (problem: string) => Error,
): SentCode {
  const addresses: Partial<Record<keyof OwnCode, string>> = {};
  for (const [name, url] of Object.entries({ network, data, module })) {
    if (url === undefined) continue;
    if (!isUrl(url)) {
      const got = typeof url === 'function' ? 'a function, which no thread can be given' : shown(url);
      throw refuse(`${name}: expected the URL of a module, as new URL('./mine.js', import.meta.url), got ${got}`);
    }
    addresses[name as keyof OwnCode] = url.href;
  }
  return addresses;
}

/** The modules again. */
export const modulesAt = (addresses: SentCode): { [Name in keyof OwnCode]?: URL } =>
  Object.fromEntries(Object.entries(addresses).map(([name, href]) => [name, new URL(href)]));
