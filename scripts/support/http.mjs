import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { BlockList, isIP } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { urlToHttpOptions } from 'node:url';
import { codeOf } from './errors.mjs';

/** @import { AgentOptions, ClientRequest, IncomingMessage } from 'node:http' */
/** @import { RequestOptions } from 'node:https' */
/** @import { Socket } from 'node:net' */
/** @import { Duplex } from 'node:stream' */
/** @import { Environment } from './paths.mjs' */

// Not undici, whose release for Node 20 (7.30) asks a proxy that closes the connection for the tunnel again and again, waits
// for a silent one as long as it likes, sends https addresses through HTTP_PROXY, knows no ALL_PROXY and no user without a
// password. Node's own agents read these variables from Node 24.5 on.

/**
 * @typedef {object} GetOptions
 * @property {Readonly<Record<string, string>>} headers
 * @property {AbortSignal | undefined} signal
 * @property {number} stallMs milliseconds without a byte after which a connection is broken off
 * @property {Environment} env where the proxy variables are read from
 * @property {Connections} [connections] that are used again; without it each request has one of its own
 */

const maxRedirects = 10;

/** The server, or the proxy before it, answered with something else than the file. */
export class HttpError extends Error {
  /**
   * @param {number} status
   * @param {string} from
   */
  constructor(status, from) {
    super(`HTTP ${status} from ${from}`);
    this.name = 'HttpError';
    this.code = 'HTTP_STATUS';
    this.status = status;
  }
}

/**
 * Whether a server, or proxy, that answers so may answer otherwise later.
 * @param {number} status
 */
export const isPassingStatus = (status) => status >= 500 || status === 408 || status === 429;

/** The server redirects to where nobody is to follow. */
export class RedirectError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = 'RedirectError';
    this.code = 'REDIRECT';
  }
}

/** A variable does not name a proxy. */
export class ProxyError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = 'ProxyError';
    this.code = 'PROXY';
  }
}

/**
 * Opens a GET and follows redirects, through the proxy that the environment names. Resolves with the response, its body
 * not yet read; a connection on which nothing moves for `stallMs` is broken off, in the body too.
 * @param {string} url
 * @param {GetOptions} options
 */
export async function get(url, options) {
  let location = new URL(url);
  for (let hop = 0; hop <= maxRedirects; hop++) {
    const response = await getOnce(location, options);
    const { statusCode = 0, headers } = response;
    if (![301, 302, 303, 307, 308].includes(statusCode) || !headers.location) return response;
    response.resume();
    const next = new URL(headers.location, location);
    if (location.protocol === 'https:' && next.protocol !== 'https:') {
      throw new RedirectError(`${location.href} redirects to ${next.href}, which is not encrypted`);
    }
    if (next.protocol !== 'http:' && next.protocol !== 'https:') {
      throw new RedirectError(`${location.href} redirects to ${next.href}, which is no http or https address`);
    }
    location = next;
  }
  throw new RedirectError(`${url} redirects more than ${maxRedirects} times`);
}

/**
 * @param {URL} url
 * @param {GetOptions} options
 */
async function getOnce(url, { headers, signal, stallMs, env, connections = new Connections({ keepAlive: false }) }) {
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new Error(`${url.href}: expected an http or https address`);
  }
  const proxy = proxyFor(url, env);
  const target =
    proxy !== undefined && url.protocol === 'http:' ? forwarded(url, proxy, headers) : direct(url, headers);
  const agent = connections.agentFor(url, proxy, stallMs);
  const isSecure = agent instanceof HttpsAgent;
  for (;;) {
    const send = isSecure ? httpsRequest : httpRequest;
    // `timeout` counts while the connection is made, too. Node keeps `signal` from the agent.
    /** @type {TunnelOptions} */
    const options = { ...target, agent, signal, tunnelSignal: signal, timeout: stallMs };
    const request = send(options);
    try {
      return await exchange(request, stallMs);
    } catch (error) {
      // A connection that was kept may have been closed by the other side just before: the next one, or a new one, does it.
      if (!request.reusedSocket || !['ECONNRESET', 'EPIPE'].includes(codeOf(error) ?? '')) throw error;
    }
  }
}

/** Milliseconds that a connection is kept without use, unless the server says less. */
const KEPT_MS = 15_000;

/** Connections to servers and proxies, each used for one request after another. */
export class Connections {
  /** @type {AgentOptions} */
  #options;
  #plain;
  #secure;
  /**
   * By the proxy's address.
   * @type {Map<string, TunnelAgent>}
   */
  #tunnels = new Map();

  constructor({ keepAlive = true } = {}) {
    // The one that was used last comes first, so that those that are not needed end.
    this.#options = keepAlive ? { keepAlive, timeout: KEPT_MS, scheduling: 'lifo' } : { keepAlive };
    this.#plain = new HttpAgent(this.#options);
    this.#secure = new HttpsAgent(this.#options);
  }

  /**
   * @param {URL} url
   * @param {URL | undefined} proxy
   * @param {number} stallMs of the making of a tunnel
   */
  agentFor(url, proxy, stallMs) {
    if (proxy === undefined) return url.protocol === 'https:' ? this.#secure : this.#plain;
    if (url.protocol === 'http:') return proxy.protocol === 'https:' ? this.#secure : this.#plain;
    let tunnels = this.#tunnels.get(proxy.href);
    if (tunnels === undefined) {
      tunnels = new TunnelAgent(proxy, stallMs, this.#options);
      this.#tunnels.set(proxy.href, tunnels);
    }
    return tunnels;
  }
}

/** @typedef {RequestOptions & { tunnelSignal?: AbortSignal }} TunnelOptions ends the making of a tunnel */

/** Encrypted connections through a proxy. */
class TunnelAgent extends HttpsAgent {
  #proxy;
  #stallMs;

  /**
   * @param {URL} proxy
   * @param {number} stallMs
   * @param {AgentOptions} options
   */
  constructor(proxy, stallMs, options) {
    super(options);
    this.#proxy = proxy;
    this.#stallMs = stallMs;
  }

  /**
   * @override
   * @param {TunnelOptions} options
   * @param {(error: Error | null, stream: Duplex) => void} [callback]
   */
  createConnection({ host, port, servername, tunnelSignal: signal }, callback) {
    const made = /** @type {(error: Error | null, stream?: Duplex) => void} */ (callback);
    const name = host ?? '';
    const authority = `${isIP(name) === 6 ? `[${name}]` : name}:${port}`;
    openTunnel(authority, this.#proxy, { signal, stallMs: this.#stallMs }).then(
      // `host` is what the certificate must be of where an IP address leaves `servername` empty.
      (socket) => made(null, tlsConnect({ socket, host: name, servername, ALPNProtocols: ['http/1.1'] })),
      made,
    );
    return undefined;
  }
}

/**
 * @param {URL} url
 * @param {GetOptions['headers']} headers
 * @returns {RequestOptions}
 */
function direct(url, headers) {
  const { auth } = urlToHttpOptions(url);
  const path = `${url.pathname}${url.search}`;
  return { ...hostOf(url), ...(auth === undefined ? {} : { auth }), path, headers: { ...headers, host: url.host } };
}

/**
 * Plain HTTP through a proxy: the whole address is the request's target.
 * @param {URL} url
 * @param {URL} proxy
 * @param {GetOptions['headers']} headers
 * @returns {RequestOptions}
 */
function forwarded(url, proxy, headers) {
  return { ...ownHostOf(proxy), path: url.href, headers: { ...headers, host: url.host, ...credentials(proxy) } };
}

/**
 * A tunnel to a server, by the proxy's CONNECT method.
 * @param {string} authority host and port
 * @param {URL} proxy
 * @param {{ signal: AbortSignal | undefined, stallMs: number }} options `signal`: of the request that it is made for
 * @returns {Promise<Socket>}
 */
function openTunnel(authority, proxy, { signal, stallMs }) {
  const send = proxy.protocol === 'https:' ? httpsRequest : httpRequest;
  const headers = { host: authority, ...credentials(proxy) };
  const target = { ...ownHostOf(proxy), method: 'CONNECT', path: authority, headers };
  const request = send({ ...target, agent: false, signal, timeout: stallMs });
  return new Promise((resolve, reject) => {
    /**
     * @param {IncomingMessage} response
     * @param {Socket} socket
     */
    const refuse = ({ statusCode = 0 }, socket) => {
      socket.destroy();
      reject(new HttpError(statusCode, `the proxy ${proxy.host}, asked for a tunnel to ${authority}`));
    };
    request.once('connect', (response, socket) => {
      if (response.statusCode !== 200) return refuse(response, socket);
      // Of the making of the tunnel alone.
      socket.setTimeout(0);
      resolve(socket);
    });
    request.once('timeout', () => request.destroy(stalled(proxy.host, stallMs)));
    request.once('error', reject).end();
  });
}

/**
 * @param {ClientRequest} request
 * @param {number} stallMs
 * @returns {Promise<IncomingMessage>}
 */
function exchange(request, stallMs) {
  return new Promise((resolve, reject) => {
    request.once('response', (response) => {
      // Once the response has come, the request's own 'error' no longer carries the reason to the body's reader.
      request.on('error', (error) => response.destroy(error));
      resolve(response);
    });
    // A kept one still counts the time that it may be kept.
    request.once('socket', (socket) => socket.setTimeout(stallMs));
    request.once('timeout', () => {
      request.destroy(stalled(request.host, stallMs));
    });
    request.once('error', reject).end();
  });
}

/**
 * @param {string} host
 * @param {number} stallMs
 */
function stalled(host, stallMs) {
  const error = new Error(`nothing came from ${host} for ${stallMs / 1000} seconds`);
  return Object.assign(error, { code: 'ETIMEDOUT' });
}

/**
 * A proxy's: the header `host`, which is the server's, would otherwise be the name that an encrypted proxy's certificate must be of.
 * @param {URL} proxy
 */
function ownHostOf(proxy) {
  const { host, port } = hostOf(proxy);
  return { host, port, ...(proxy.protocol === 'https:' ? { servername: isIP(host) ? '' : host } : {}) };
}

/** @param {URL} url */
function hostOf(url) {
  return { host: withoutBrackets(url.hostname), port: portOf(url) };
}

/**
 * An IPv6 address as it is outside of addresses of files.
 * @param {string} hostname
 */
const withoutBrackets = (hostname) => hostname.replace(/^\[|\]$/g, '');

/** @param {URL} url */
const portOf = (url) => Number(url.port || (url.protocol === 'https:' ? 443 : 80));

/**
 * @param {URL} proxy
 * @returns {Record<string, string>}
 */
function credentials(proxy) {
  if (proxy.username === '') return {};
  const pair = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  return { 'proxy-authorization': `Basic ${Buffer.from(pair).toString('base64')}` };
}

/**
 * The proxy that curl's variables name for an address (lower case first, as curl reads them), or undefined. Throws `ProxyError`
 * where a variable names something else.
 * @param {URL} url
 * @param {Environment} [env]
 */
export function proxyFor(url, env = process.env) {
  const scheme = url.protocol.slice(0, -1);
  /** @param {string} name */
  const nameOf = (name) => [name, name.toUpperCase()].find((one) => env[one]);
  const name = nameOf(`${scheme}_proxy`) ?? nameOf('all_proxy');
  const value = name === undefined ? undefined : env[name];
  if (!name || !value || isExempt(url, env[nameOf('no_proxy') ?? ''] ?? '')) return undefined;
  const whole = value.includes('://') ? value : `http://${value}`;
  const proxy = URL.canParse(whole) ? new URL(whole) : undefined;
  if (proxy !== undefined && ['http:', 'https:'].includes(proxy.protocol) && hasCredentials(proxy)) return proxy;
  // A password must not come to lie in a log.
  const got = value.includes('@')
    ? `one that ends in ${JSON.stringify(value.slice(value.lastIndexOf('@') + 1))}`
    : JSON.stringify(value);
  throw new ProxyError(`${name}: expected the address of an HTTP proxy, such as http://host:3128, got ${got}`);
}

/**
 * Whether those that there are can be read.
 * @param {URL} proxy
 */
function hasCredentials(proxy) {
  try {
    credentials(proxy);
    return true;
  } catch {
    return false;
  }
}

/**
 * NO_PROXY: hosts, domains and IP addresses separated by commas, each with or without a leading dot, or `*.`, and a port; networks
 * such as 10.0.0.0/8; `*` is every host.
 * @param {URL} url
 * @param {string} list
 */
function isExempt(url, list) {
  const host = withoutBrackets(url.hostname);
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .filter(Boolean)
    .some((entry) => {
      if (entry === '*') return true;
      if (entry.includes('/')) return isInNetwork(host, entry);
      if (isIP(withoutBrackets(entry)) !== 0) return withoutBrackets(entry) === host;
      const [, name = '', wantedPort] = /^(?:\*?\.)?(.*?)(?::(\d+))?$/.exec(entry) ?? [];
      if (wantedPort !== undefined && Number(wantedPort) !== portOf(url)) return false;
      return host === withoutBrackets(name) || host.endsWith(`.${name}`);
    });
}

/**
 * @param {string} host
 * @param {string} network in the form of CIDR
 */
function isInNetwork(host, network) {
  const [address = '', bits = ''] = network.split('/');
  const family = isIP(address);
  if (family === 0 || isIP(host) !== family || !/^\d+$/.test(bits) || Number(bits) > (family === 4 ? 32 : 128))
    return false;
  const kind = family === 4 ? 'ipv4' : 'ipv6';
  const list = new BlockList();
  list.addSubnet(address, Number(bits), kind);
  return list.check(host, kind);
}
