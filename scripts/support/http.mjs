import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP } from 'node:net';
import { connect as tlsConnect } from 'node:tls';

/** @import { ClientRequest, IncomingMessage } from 'node:http' */
/** @import { Socket } from 'node:net' */
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
      throw new Error(`${location.href} redirects to ${next.href}, which is not encrypted`);
    }
    location = next;
  }
  throw new Error(`${url} redirects more than ${maxRedirects} times`);
}

/**
 * @param {URL} url
 * @param {GetOptions} options
 */
async function getOnce(url, { headers, signal, stallMs, env }) {
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new Error(`${url.href}: expected an http or https address`);
  }
  const proxy = proxyFor(url, env);
  if (proxy === undefined) {
    const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
    return exchange(send(url, { headers, signal, agent: false }), stallMs);
  }
  if (url.protocol === 'http:') return exchange(forwardRequest(url, proxy, { headers, signal }), stallMs);
  const tunnel = await openTunnel(url, proxy, { signal, stallMs });
  const secure = tlsConnect({ socket: tunnel, servername: serverName(url), ALPNProtocols: ['http/1.1'] });
  // No `agent: false` here: an agent, even a fresh one, would make a connection of its own.
  return exchange(httpsRequest(url, { headers, signal, createConnection: () => secure }), stallMs);
}

/**
 * Plain HTTP through a proxy: the whole address is the request's target.
 * @param {URL} url
 * @param {URL} proxy
 * @param {Pick<GetOptions, 'headers' | 'signal'>} options
 */
function forwardRequest(url, proxy, { headers, signal }) {
  const send = proxy.protocol === 'https:' ? httpsRequest : httpRequest;
  const target = { ...hostOf(proxy), path: url.href, agent: false, signal };
  return send({ ...target, headers: { ...headers, host: url.host, ...credentials(proxy) } });
}

/**
 * A tunnel to the server of an https address, by the proxy's CONNECT method.
 * @param {URL} url
 * @param {URL} proxy
 * @param {Pick<GetOptions, 'signal' | 'stallMs'>} options
 * @returns {Promise<Socket>}
 */
function openTunnel(url, proxy, { signal, stallMs }) {
  const authority = `${url.hostname}:${url.port || 443}`;
  const send = proxy.protocol === 'https:' ? httpsRequest : httpRequest;
  const headers = { host: authority, ...credentials(proxy) };
  const request = send({ ...hostOf(proxy), method: 'CONNECT', path: authority, headers, agent: false, signal });
  return new Promise((resolve, reject) => {
    request.once('connect', (response, socket) => {
      const { statusCode = 0 } = response;
      if (statusCode === 200) return resolve(socket);
      socket.destroy();
      reject(new HttpError(statusCode, `the proxy ${proxy.host}, asked for a tunnel to ${authority}`));
    });
    request.setTimeout(stallMs, () => request.destroy(stalled(proxy.host, stallMs)));
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
    request.setTimeout(stallMs, () => {
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

/** @param {URL} proxy */
function hostOf(proxy) {
  const standard = proxy.protocol === 'https:' ? 443 : 80;
  return { host: proxy.hostname.replace(/^\[|\]$/g, ''), port: Number(proxy.port || standard) };
}

/** @param {URL} url */
function serverName(url) {
  return isIP(url.hostname.replace(/^\[|\]$/g, '')) ? undefined : url.hostname;
}

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
 * The proxy that curl's variables name for an address (lower case first, as curl reads them), or undefined.
 * @param {URL} url
 * @param {Environment} [env]
 */
export function proxyFor(url, env = process.env) {
  const scheme = url.protocol.slice(0, -1);
  /** @param {string} name */
  const variable = (name) => env[name] || env[name.toUpperCase()];
  const proxy = variable(`${scheme}_proxy`) || variable('all_proxy');
  if (!proxy || isExempt(url, variable('no_proxy') ?? '')) return undefined;
  return new URL(proxy.includes('://') ? proxy : `http://${proxy}`);
}

/**
 * NO_PROXY: hosts and domains separated by commas, each with or without a leading dot and a port; `*` is every host.
 * @param {URL} url
 * @param {string} list
 */
function isExempt(url, list) {
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return list
    .split(/[\s,]+/)
    .filter(Boolean)
    .some((entry) => {
      if (entry === '*') return true;
      const [, name, wantedPort] = /^\.?(.*?)(?::(\d+))?$/.exec(entry.toLowerCase()) ?? [];
      if (wantedPort !== undefined && wantedPort !== port) return false;
      return url.hostname === name || url.hostname.endsWith(`.${name}`);
    });
}
