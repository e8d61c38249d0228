// Requests in a process of their own: `service-load.mjs PORT`, then a message for each measurement: its seconds, and requests a second
// where there are to be so many and no more. In answer requests a second over 8 connections that are kept, each with one request at
// a time, how many failed, and by how many milliseconds answers came after their requests were due (99th percentile). It does as
// little as can be for a request: it wants processors itself.
import { connect } from 'node:net';
import { quantile } from './statistics.mjs';

const CONNECTIONS = 8;
const REQUEST = 'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n';
const BODY = '{"ok":true}\n';

const port = Number(process.argv[2]);

/** @typedef {{ seconds: number, rate?: number }} LoadRequest */
/** @typedef {{ rate: number, failed: number, delay: number }} Loaded */

/**
 * Sends one request after another until `end`, each when it is due.
 * @param {number} end
 * @param {number} interval milliseconds from one request to the next; 0: at once
 * @returns {Promise<{ answered: number, failed: number, delays: number[] }>}
 */
function send(end, interval) {
  let [answered, failed, text] = [0, 0, ''];
  let due = performance.now();
  /** @type {number[]} */
  const delays = [];
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    socket.setEncoding('latin1');
    const next = () => {
      text = '';
      const now = performance.now();
      if (now >= end) socket.end();
      else if (due <= now) socket.write(REQUEST);
      else setTimeout(next, due - now);
    };
    socket.on('connect', next);
    socket.on('data', (/** @type {string} */ part) => {
      text += part;
      if (!text.endsWith(BODY)) return;
      if (text.startsWith('HTTP/1.1 200 ')) answered++;
      else failed++;
      if (interval > 0) delays.push(performance.now() - due);
      due += interval;
      next();
    });
    socket.on('error', () => failed++);
    // Also where the server closes it in the middle of an answer.
    socket.on('close', () => resolve({ answered, failed: failed + (text === '' ? 0 : 1), delays }));
  });
}

process.on('message', async (/** @type {LoadRequest} */ { seconds, rate }) => {
  const start = performance.now();
  const end = start + 1000 * seconds;
  const interval = rate === undefined ? 0 : (1000 * CONNECTIONS) / rate;
  const counts = await Promise.all(Array.from({ length: CONNECTIONS }, () => send(end, interval)));
  /** @param {'answered' | 'failed'} name */
  const sum = (name) => counts.reduce((total, count) => total + count[name], 0);
  const delays = counts.flatMap((count) => count.delays).sort((a, b) => a - b);
  process.send?.({
    rate: (1000 * sum('answered')) / (performance.now() - start),
    failed: sum('failed'),
    delay: delays.length === 0 ? 0 : quantile(delays, 0.99),
  });
});
process.send?.('ready');
