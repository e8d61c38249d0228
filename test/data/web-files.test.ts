// Parts of files on a web server: proxies, connections that are used again, and servers that fall silent.
import { readFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { connect } from 'node:net';
import { crc32 } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { fetchFile, fetchPart, type WebPart } from '../../lib/data/web-files.js';
import { fixture, listen } from '../scripts/scripts.js';

const archive = Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * i) % 251));

const partOf = (file: string, offset: number): WebPart => ({
  ...{ file, fileBytes: archive.length, offset, length: 100 },
  checksum: crc32(archive.subarray(offset, offset + 100)),
});

/** Gives parts of `archive`, whatever the address. */
const origin: RequestListener = ({ headers }, response) => {
  const [first, last] = headers.range!.slice('bytes='.length).split('-').map(Number) as [number, number];
  response.writeHead(206, { 'content-range': `bytes ${first}-${last}/${archive.length}` });
  response.end(archive.subarray(first, last + 1));
};

/** A proxy for both schemes, whatever the host: encrypted connections go to `secure`, plain ones are answered as `origin` does. */
async function startProxy(secure?: string) {
  const seen = { connections: 0, targets: [] as string[], credentials: new Set<string | undefined>() };
  const server = createServer((request, response) => {
    seen.targets.push(request.url!);
    seen.credentials.add(request.headers['proxy-authorization']);
    origin(request, response);
  });
  server.on('connection', () => seen.connections++);
  server.on('connect', (request, client) => {
    seen.targets.push(request.url!);
    const upstream = connect(Number(new URL(secure!).port), '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      upstream.pipe(client).pipe(upstream);
    });
    for (const socket of [client, upstream]) socket.on('error', () => {});
  });
  return { seen, url: await listen(server) };
}

const VARIABLES = ['http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'].flatMap((name) => [name, name.toUpperCase()]);
beforeEach(() => {
  for (const name of VARIABLES) vi.stubEnv(name, '');
});
afterEach(() => void vi.unstubAllEnvs());

async function requireParts(file: string, offsets: readonly number[]): Promise<void> {
  for (const offset of offsets) {
    const bytes = await fetchPart(partOf(file, offset), { tries: 1 });
    expect(Buffer.from(bytes).equals(archive.subarray(offset, offset + 100))).toBe(true);
  }
}

const OFFSETS = Array.from({ length: 20 }, (_, i) => 200 * i);

describe('connections', () => {
  it('are used again, one after another', async () => {
    let connections = 0;
    const server = createServer(origin).on('connection', () => connections++);
    const url = await listen(server);
    await requireParts(`${url}/a.tar`, OFFSETS);
    expect(connections).toBe(1);
  });

  it('that the server closes as they are used again cost no try', async () => {
    const asked = new Map<unknown, number>();
    const server = createServer((request, response) => {
      const times = (asked.get(request.socket) ?? 0) + 1;
      asked.set(request.socket, times);
      if (times === 3) request.socket.destroy();
      else origin(request, response);
    });
    await requireParts(`${await listen(server)}/a.tar`, OFFSETS);
    expect(asked.size).toBe(10);
  });
});

describe('a proxy', () => {
  it('of HTTP_PROXY is asked for whole addresses, over connections that are kept', async () => {
    const { seen, url } = await startProxy();
    vi.stubEnv('HTTP_PROXY', url.replace('//', '//user:pass%21@'));
    await requireParts('http://data.invalid/set/a.tar', OFFSETS);
    expect(seen.connections).toBe(1);
    expect(new Set(seen.targets)).toEqual(new Set(['http://data.invalid/set/a.tar']));
    // Basic, RFC 7617: base64 of user:pass!
    expect([...seen.credentials]).toEqual(['Basic dXNlcjpwYXNzIQ==']);
  });

  it('of https_proxy opens tunnels, each used for many parts', async () => {
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
    const tls = { key: readFileSync(fixture('localhost-key.pem')), cert: readFileSync(fixture('localhost-cert.pem')) };
    const { seen, url } = await startProxy(await listen(createSecureServer(tls, origin)));
    vi.stubEnv('https_proxy', url);
    await requireParts('https://data.invalid/a.tar', OFFSETS);
    expect(seen).toMatchObject({ connections: 1, targets: ['data.invalid:443'] });
    await Promise.all(OFFSETS.map((offset) => requireParts('https://data.invalid/a.tar', [offset, offset, offset])));
    expect(seen.connections).toBeGreaterThan(1);
    expect(seen.connections).toBeLessThanOrEqual(OFFSETS.length);
  });

  it('is not asked where NO_PROXY names the host or its network', async () => {
    const { seen, url } = await startProxy();
    const direct = `${await listen(createServer(origin))}/a.tar`;
    vi.stubEnv('HTTP_PROXY', url);
    for (const list of ['127.0.0.1', 'a.example, 127.0.0.0/8', '*']) {
      vi.stubEnv('NO_PROXY', list);
      await requireParts(direct, [0]);
    }
    expect(seen.connections).toBe(0);
    vi.stubEnv('NO_PROXY', '10.0.0.0/8');
    await requireParts(direct, [0]);
    expect(seen.targets).toEqual([direct]);
  });

  it('that is encrypted has a certificate of its own name', async () => {
    const tls = { key: readFileSync(fixture('localhost-key.pem')), cert: readFileSync(fixture('localhost-cert.pem')) };
    const names: unknown[] = [];
    const server = createSecureServer(tls, origin).on('secureConnection', ({ servername }) => names.push(servername));
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
    vi.stubEnv('HTTP_PROXY', (await listen(server)).replace('http://127.0.0.1', 'https://localhost'));
    await requireParts('http://data.invalid/a.tar', [0, 100]);
    expect(names).toEqual(['localhost']);
  });

  it.each([
    [
      'refuses a tunnel for good',
      'HTTP/1.1 407 No\r\n\r\n',
      1,
      'HTTP 407 from the proxy HOST, asked for a tunnel to data.invalid:443',
    ],
    [
      'cannot make a tunnel',
      'HTTP/1.1 502 No\r\n\r\n',
      4,
      'HTTP 502 from the proxy HOST, asked for a tunnel to data.invalid:443',
    ],
    ['closes the connection', '', 4, 'socket hang up'],
  ])('that %s is told by name', async (_, answer, tries, reason) => {
    let asked = 0;
    const server = createServer().on('connect', (_request, client) => {
      asked++;
      client.on('error', () => {}).end(answer, () => client.destroy());
    });
    const proxy = await listen(server);
    vi.stubEnv('HTTPS_PROXY', proxy);
    const { host } = new URL(proxy);
    const times = tries === 1 ? '1 try' : `${tries} tries`;
    await expect(
      fetchPart(partOf('https://data.invalid/a.tar', 0), { tries: 4, firstPauseMs: 1 }),
    ).rejects.toMatchObject({
      code: 'DATA_DOWNLOAD',
      path: 'https://data.invalid/a.tar',
      message:
        `https://data.invalid/a.tar (bytes 0 to 99) could not be read in ${times} through the proxy ${host}: ` +
        reason.replace('HOST', host),
    });
    expect(asked).toBe(tries);
  });

  it.each(['http', 'https'])('that never answers for an %s address is given up in time', async (scheme) => {
    const server = createServer(() => {}).on('connect', () => {});
    vi.stubEnv('ALL_PROXY', await listen(server));
    const start = performance.now();
    await expect(
      fetchPart(partOf(`${scheme}://data.invalid/a.tar`, 0), { timeoutMs: 100, firstPauseMs: 1 }),
    ).rejects.toThrow(
      /could not be read in 3 tries through the proxy 127\.0\.0\.1:\d+: no answer within 0\.1 seconds$/,
    );
    expect(performance.now() - start).toBeLessThan(3000);
  });

  it('that asks for a password, or is none, is told at once', async () => {
    const refusing = await listen(createServer((_, response) => void response.writeHead(407).end()));
    vi.stubEnv('HTTP_PROXY', refusing);
    await expect(fetchFile('http://data.invalid/index.json')).rejects.toThrow(
      `through the proxy ${new URL(refusing).host} cannot be read: the proxy asks for a user and a password (HTTP 407)`,
    );
    vi.stubEnv('HTTP_PROXY', 'socks5://user:secret@host:1080');
    await expect(fetchFile('http://data.invalid/index.json')).rejects.toMatchObject({
      code: 'DATA_DOWNLOAD',
      message:
        'http://data.invalid/index.json could not be read in 1 try: ' +
        'HTTP_PROXY: expected the address of an HTTP proxy, such as http://host:3128, got one that ends in "host:1080"',
    });
  });
});

describe('a server', () => {
  it('that is slow and steady is waited for, one that gives a little now and then is not', async () => {
    const [part, least] = [64 * 1024, 400];
    const steady = await listen(
      createServer(async (_, response) => {
        for (let i = 0; i < 12; i++) {
          response.write(Buffer.alloc(part, i));
          await new Promise((resolve) => setTimeout(resolve, least / 8));
        }
        response.end();
      }),
    );
    const start = performance.now();
    expect((await fetchFile(`${steady}/index.json`, { timeoutMs: least, tries: 1 })).length).toBe(12 * part);
    expect(performance.now() - start).toBeGreaterThan(least);
    const dripping = await listen(
      createServer((_, response) => {
        response.write(Buffer.alloc(80 * 1024));
        const timer = setInterval(() => response.write('a'), 10);
        response.on('close', () => clearInterval(timer));
      }),
    );
    await expect(fetchFile(`${dripping}/index.json`, { timeoutMs: least, firstPauseMs: 1 })).rejects.toThrow(
      /could not be read in 3 tries: 8[12]\d\d\d bytes, and of the last less than 65536 within 0\.4 seconds$/,
    );
  });

  it.each<[string, RequestListener, RegExp]>([
    [
      'says nothing',
      () => {},
      /a\.tar \(bytes 200 to 299\) could not be read in 3 tries: no answer within 0\.1 seconds$/,
    ],
    [
      'stops in the middle',
      ({ headers }, response) => {
        response.writeHead(206, { 'content-length': 100, 'content-range': `bytes ${headers.range!.slice(6)}/5000` });
        response.write('abc');
      },
      /in 3 tries: an answer, and 3 bytes of it, within 0\.1 seconds$/,
    ],
    [
      'closes in the middle',
      ({ headers, socket }, response) => {
        response.writeHead(206, { 'content-length': 100, 'content-range': `bytes ${headers.range!.slice(6)}/5000` });
        response.write('abc', () => setTimeout(() => socket.destroy(), 20));
      },
      /in 8 tries: the connection broke after 3 bytes: aborted$/,
    ],
    [
      'gives more than was asked for',
      ({ headers }, response) => {
        response.writeHead(206, { 'content-range': `bytes ${headers.range!.slice(6)}/5000` }).end(archive);
      },
      /in 8 tries: expected 100 bytes, got \d+$/,
    ],
    [
      'redirects in a circle',
      ({ headers }, response) => void response.writeHead(302, { location: `http://${headers.host}/a.tar` }).end(),
      /in 1 try: .*a\.tar redirects more than 10 times$/,
    ],
    [
      'redirects to no web address',
      (_, response) => void response.writeHead(302, { location: 'ftp://a.example/a.tar' }).end(),
      /in 1 try: .* redirects to ftp:\/\/a\.example\/a\.tar, which is no http or https address$/,
    ],
    [
      'packs what it gives',
      (_, response) => void response.writeHead(206, { 'content-encoding': 'gzip' }).end('x'),
      /a\.tar: expected the bytes as they lie there, got them in content-encoding gzip$/,
    ],
  ])('that %s is told by name', async (_, listener, message) => {
    const url = await listen(createServer(listener));
    await expect(fetchPart(partOf(`${url}/a.tar`, 200), { timeoutMs: 100, firstPauseMs: 0.1 })).rejects.toMatchObject({
      code: 'DATA_DOWNLOAD',
      message: expect.stringMatching(message),
    });
  });

  it('that stops in the middle is left at once when the reading is cancelled', async () => {
    const url = await listen(
      createServer((_, response) => {
        response.writeHead(200, { 'content-length': 100 });
        response.write('abc');
      }),
    );
    const controller = new AbortController();
    const start = performance.now();
    setTimeout(() => controller.abort(), 50);
    await expect(fetchFile(`${url}/index.json`, { signal: controller.signal })).rejects.toMatchObject({
      code: 'DATA_CANCELLED',
    });
    expect(performance.now() - start).toBeLessThan(1000);
  });
});
