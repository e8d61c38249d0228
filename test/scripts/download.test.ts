import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { type AddressInfo, connect, createServer as createNetServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { download } from '../../scripts/download.mjs';
import { proxyFor } from '../../scripts/support/http.mjs';
import { fixture, listen, root, serve, temporaryFolder } from './scripts.js';

// 1,000,000 times the letter a: its SHA-256 is one of the test vectors of FIPS 180-2 (appendix B.3).
const content = Buffer.alloc(1_000_000, 'a');
const sha256 = 'cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0';
const etag = '"one"';
const noProxy = {};

/** Answers as a server that knows ranges; `cutAfter` breaks the first connections off. */
function rangeServer({ cuts = [] as number[], ranges = true } = {}) {
  const requests: IncomingMessage['headers'][] = [];
  const listener = (request: IncomingMessage, response: ServerResponse) => {
    const cut = cuts[requests.length];
    requests.push(request.headers);
    const wanted = ranges ? /^bytes=(\d+)-$/.exec(request.headers.range ?? '') : null;
    const matches = request.headers['if-range'] === undefined || request.headers['if-range'] === etag;
    const start = wanted !== null && matches ? Number(wanted[1]) : 0;
    const status = start > 0 ? 206 : 200;
    const range = start > 0 ? { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` } : {};
    response.writeHead(status, { etag, 'content-length': content.length - start, ...range });
    if (cut === undefined) response.end(content.subarray(start));
    else response.write(content.subarray(start, start + cut), () => setTimeout(() => response.destroy(), 20));
  };
  return { requests, listener };
}

function options(url: string) {
  const to = join(temporaryFolder(), 'file');
  return { url, to, sha256, size: content.length, env: noProxy, backoffMs: 5 };
}

describe('download', () => {
  test('makes the file, leaves no part, and reports progress up to the whole', async () => {
    const job = options(await serve(rangeServer().listener));
    const seen: number[] = [];
    const result = await download({ ...job, onProgress: ({ received }) => seen.push(received) });
    expect(result).toEqual({ path: job.to, sha256, size: 1_000_000, reused: false });
    expect(readFileSync(job.to).equals(content)).toBe(true);
    expect(existsSync(`${job.to}.part`) || existsSync(`${job.to}.part.json`)).toBe(false);
    expect(seen.at(-1)).toBe(1_000_000);
  });

  test('gives the user and the password of the address', async () => {
    const asked: unknown[] = [];
    const url = await serve((request, response) => {
      asked.push(request.headers.authorization);
      rangeServer().listener(request, response);
    });
    await download(options(url.replace('//', '//user:pass%21@')));
    // Basic, RFC 7617: base64 of user:pass!
    expect(asked).toEqual(['Basic dXNlcjpwYXNzIQ==']);
  });

  test('goes on after cut connections with the bytes that came', async () => {
    const server = rangeServer({ cuts: [300_000, 200_000] });
    const result = await download(options(await serve(server.listener)));
    expect(result.sha256).toBe(sha256);
    expect(server.requests).toHaveLength(3);
    expect(server.requests[0]?.range).toBeUndefined();
    for (const headers of server.requests.slice(1)) {
      expect(headers.range).toMatch(/^bytes=[1-9]\d*-$/);
      expect(headers['if-range']).toBe(etag);
    }
  });

  test('a later call goes on from the part that an interrupted one left', async () => {
    const { listener } = rangeServer();
    let first = true;
    const origin = await serve((request, response) => {
      if (!first) return listener(request, response);
      first = false;
      response.writeHead(200, { etag, 'content-length': content.length });
      response.write(content.subarray(0, 400_000));
    });
    const job = options(origin);
    const controller = new AbortController();
    const stop = () => setTimeout(() => controller.abort(new Error('stop')), 50);
    const onProgress = ({ received }: { received: number }) => received === 400_000 && stop();
    await expect(download({ ...job, signal: controller.signal, onProgress })).rejects.toThrow('stop');
    expect(existsSync(job.to)).toBe(false);
    let resumedFrom = 0;
    await download({ ...job, onProgress: (progress) => (resumedFrom = progress.resumedFrom) });
    expect(resumedFrom).toBe(400_000);
    expect(readFileSync(job.to).equals(content)).toBe(true);
  });

  test('starts anew where the server knows no ranges', async () => {
    const server = rangeServer({ cuts: [300_000], ranges: false });
    const job = options(await serve(server.listener));
    await download(job);
    expect(readFileSync(job.to).equals(content)).toBe(true);
    expect(server.requests).toHaveLength(2);
  });

  test('a part of another file is thrown away once its checksum shows it', async () => {
    const url = await serve(rangeServer().listener);
    const job = options(url);
    writeFileSync(`${job.to}.part`, Buffer.alloc(1000, 'b'));
    writeFileSync(`${job.to}.part.json`, JSON.stringify({ url }));
    expect((await download(job)).sha256).toBe(sha256);
  });

  test('a wrong checksum names both and leaves nothing behind', async () => {
    const job = { ...options(await serve(rangeServer().listener)), sha256: 'ab'.repeat(32) };
    const failure = expect(download(job)).rejects;
    await failure.toMatchObject({ code: 'CHECKSUM', url: job.url });
    await expect(download(job)).rejects.toThrow(`expected SHA-256 ${'ab'.repeat(32)}, got ${sha256}`);
    expect(existsSync(job.to) || existsSync(`${job.to}.part`)).toBe(false);
  });

  test('a wrong size is refused before the body is fetched', async () => {
    const job = { ...options(await serve(rangeServer().listener)), size: 999 };
    await expect(download(job)).rejects.toThrow('expected 999 bytes, got 1000000');
  });

  test('a file that is already there with the checksum is not fetched again', async () => {
    const server = rangeServer();
    const job = options(await serve(server.listener));
    writeFileSync(job.to, content);
    expect((await download(job)).reused).toBe(true);
    expect(server.requests).toHaveLength(0);
  });

  test('follows redirects, relative ones too', async () => {
    const { listener } = rangeServer();
    const origin = await serve((request, response) => {
      if (request.url === '/end') listener(request, response);
      else response.writeHead(302, { location: request.url === '/' ? '/middle' : '/end' }).end();
    });
    expect((await download(options(`${origin}/`))).sha256).toBe(sha256);
  });

  test('tries again after a server error and gives up at once on a missing file', async () => {
    const { listener } = rangeServer();
    let count = 0;
    const busy = await serve((request, response) => {
      if (++count < 3) response.writeHead(503).end();
      else listener(request, response);
    });
    expect((await download(options(busy))).sha256).toBe(sha256);
    let misses = 0;
    const empty = await serve((_request, response) => {
      misses++;
      response.writeHead(404).end();
    });
    await expect(download(options(empty))).rejects.toMatchObject({ code: 'HTTP_STATUS' });
    expect(misses).toBe(1);
  });

  test('a connection on which nothing moves is broken off and the file goes on', async () => {
    const { listener } = rangeServer();
    let first = true;
    const origin = await serve((request, response) => {
      if (!first) return listener(request, response);
      first = false;
      response.writeHead(200, { etag, 'content-length': content.length });
      response.write(content.subarray(0, 1000));
    });
    expect((await download({ ...options(origin), stallMs: 200 })).sha256).toBe(sha256);
  });

  test('a host that cannot be reached fails at once with its address', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const failure = download(options(`http://127.0.0.1:${port}/file`));
    await expect(failure).rejects.toMatchObject({ code: 'UNREACHABLE' });
    await expect(failure).rejects.toThrow(`127.0.0.1:${port}`);
  });

  test('two calls for one file at once fetch it once', async () => {
    const server = rangeServer();
    const job = options(await serve(server.listener));
    const results = await Promise.all([download(job), download(job)]);
    expect(results.map(({ reused }) => reused).sort()).toEqual([false, true]);
    expect(server.requests).toHaveLength(1);
  });
});

describe('proxies', () => {
  test('plain HTTP goes through HTTP_PROXY with its credentials, unless NO_PROXY exempts the host', async () => {
    const { listener } = rangeServer();
    const asked: (string | undefined)[] = [];
    const proxy = await serve((request, response) => {
      asked.push(request.url, request.headers['proxy-authorization']);
      listener(request, response);
    });
    const env = { HTTP_PROXY: proxy.replace('//', '//user:pass%21@') };
    await download({ ...options('http://example.invalid/file'), env });
    // Basic, RFC 7617: base64 of user:pass!
    expect(asked).toEqual(['http://example.invalid/file', 'Basic dXNlcjpwYXNzIQ==']);
    const direct = await serve(listener);
    await download({ ...options(direct), env: { ...env, NO_PROXY: 'localhost,127.0.0.1' } });
    expect(asked).toHaveLength(2);
  });

  test('HTTPS goes through a CONNECT tunnel and the server certificate is still checked', async () => {
    const tls = { key: readFileSync(fixture('localhost-key.pem')), cert: readFileSync(fixture('localhost-cert.pem')) };
    const secure = await listen(createSecureServer(tls, rangeServer().listener));
    const tunnels: string[] = [];
    const proxyServer = createServer();
    proxyServer.on('connect', (request, client) => {
      tunnels.push(request.url ?? '');
      const upstream = connect(Number(new URL(secure).port), '127.0.0.1', () => {
        client.write('HTTP/1.1 200 Connection established\r\n\r\n');
        upstream.pipe(client).pipe(upstream);
      });
      for (const socket of [client, upstream]) socket.on('error', () => {});
    });
    const proxy = await listen(proxyServer);
    const url = `https://localhost:${new URL(secure).port}/file`;
    const trusting = await downloadInChild(url, {
      HTTPS_PROXY: proxy,
      NODE_EXTRA_CA_CERTS: fixture('localhost-cert.pem'),
    });
    expect(trusting).toContain(sha256);
    expect(tunnels).toEqual([`localhost:${new URL(secure).port}`]);
    expect(await downloadInChild(url, { HTTPS_PROXY: proxy })).toMatch(/UNREACHABLE.*self-signed/);
  });

  test.each([
    [
      'is refused with the status',
      'HTTP/1.1 407 No\r\n\r\n',
      'HTTP_STATUS',
      /^HTTP 407 from the proxy 127\.0\.0\.1/,
      1,
    ],
    ['is cut off by the proxy again and again', '', 'UNREACHABLE', /cannot be reached: socket hang up/, 5],
    ['is opened and cut off', 'HTTP/1.1 200 Yes\r\n\r\n', 'UNREACHABLE', /disconnected before secure TLS/, 5],
  ])('a tunnel that %s fails in words', async (_, answer, code, message, attempts) => {
    const proxyServer = createServer();
    let asked = 0;
    proxyServer.on('connect', (_request, client) => {
      asked++;
      client.on('error', () => {}).end(answer, () => client.destroy());
    });
    const env = { HTTPS_PROXY: await listen(proxyServer) };
    const failure = download({ ...options('https://example.invalid/file'), env, backoffMs: 1 });
    await expect(failure).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect(asked).toBe(attempts);
  });

  test.each(['http', 'https'])('a proxy that never answers for an %s address is given up', async (scheme) => {
    const silent = createNetServer((client) => void client.on('error', () => {}));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void silent.close());
    const env = { ALL_PROXY: `127.0.0.1:${(silent.address() as AddressInfo).port}` };
    const failure = download({ ...options(`${scheme}://example.invalid/file`), env, backoffMs: 1, stallMs: 50 });
    await expect(failure).rejects.toMatchObject({
      code: 'UNREACHABLE',
      message: expect.stringContaining('for 0.05 seconds'),
    });
  });

  test.each([
    ['https://a.example/x', { HTTPS_PROXY: 'http://p:1' }, 'http://p:1/'],
    ['https://a.example/x', { https_proxy: 'p:1', HTTPS_PROXY: 'http://q:2' }, 'http://p:1/'],
    ['http://a.example/x', { HTTPS_PROXY: 'http://p:1' }, undefined],
    ['http://a.example/x', { ALL_PROXY: 'http://p:1' }, 'http://p:1/'],
    ['https://a.example/x', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '.example' }, undefined],
    ['https://a.example/x', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'example:443' }, undefined],
    ['https://a.example/x', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'example:80,ample' }, 'http://p:1/'],
    ['https://a.example/x', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '*' }, undefined],
    ['https://a.example/x', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '*.Example' }, undefined],
    ['https://10.1.2.3/x', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '192.168.0.0/16,10.0.0.0/8' }, undefined],
    ['https://11.1.2.3/x', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '10.0.0.0/8,10.0.0.0/64' }, 'http://p:1/'],
    ['https://[fd00::1]:8443/x', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'fd00::/8' }, undefined],
    ['https://[fd00::1]:8443/x', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '[fd00::1]:8443' }, undefined],
    ['https://[fd00::1]:8443/x', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'fd00::2,fd00::1' }, undefined],
  ])('%s with %j is reached through %s', async (url, env, expected) => {
    expect(proxyFor(new URL(url), env)?.href).toBe(expected);
  });

  test.each([
    ['socks5://h:1080', 'got "socks5://h:1080"'],
    ['http://h:port', 'got "http://h:port"'],
    ['http://user:%zz@h:1', 'got one that ends in "h:1"'],
  ])('a variable that names %s instead of a proxy is refused by name', (https_proxy, got) => {
    expect(() => proxyFor(new URL('https://a.example/x'), { https_proxy })).toThrow(
      `https_proxy: expected the address of an HTTP proxy, such as http://host:3128, ${got}`,
    );
  });
});

/** Trust in further certificates is read when Node starts, so a child downloads: its output. */
async function downloadInChild(url: string, env: Record<string, string>): Promise<string> {
  const code = `
    import { download } from ${JSON.stringify(new URL('../../scripts/download.mjs', import.meta.url).href)};
    await download(${JSON.stringify({ url, to: join(temporaryFolder(), 'file') })})
      .then(({ sha256 }) => console.log(sha256), (error) => console.log(error.code, error.message));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    cwd: root,
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill());
  let output = '';
  for await (const chunk of child.stdout) output += chunk;
  return output;
}
