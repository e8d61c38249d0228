/**
 * Bytes; `total` is undefined where nobody knows it.
 * @typedef {{ readonly received: number, readonly total: number | undefined }} Progress
 */

/** @typedef {{ update(progress: Progress): void, done(): void }} ProgressDisplay */

const barWidth = 24;

/**
 * Shows a transfer: a bar on a terminal, a line at every tenth where it is not one.
 * @param {string} label
 * @param {NodeJS.WriteStream} [stream]
 * @returns {ProgressDisplay}
 */
export function transferProgress(label, stream = process.stderr) {
  return stream.isTTY ? bar(label, stream) : lines(label, stream);
}

/**
 * @param {string} label
 * @param {NodeJS.WriteStream} stream
 * @returns {ProgressDisplay}
 */
function bar(label, stream) {
  const started = Date.now();
  let drawnAt = 0;
  /** @type {number | undefined} */
  let first;
  return {
    update({ received, total }) {
      first ??= received;
      const now = Date.now();
      if (now - drawnAt < 100 && received !== total) return;
      drawnAt = now;
      const rate = (received - first) / Math.max((now - started) / 1000, 0.001);
      stream.write(`\r\x1b[2K  ${label} ${draw(received, total)} ${amount(received, total)}, ${bytes(rate)}/s`);
    },
    done() {
      if (drawnAt !== 0) stream.write('\r\x1b[2K');
    },
  };
}

/**
 * @param {number} received
 * @param {number | undefined} total
 */
function draw(received, total) {
  if (!total) return '';
  const filled = Math.round((barWidth * received) / total);
  return `[${'='.repeat(filled)}${' '.repeat(barWidth - filled)}] ${Math.floor((100 * received) / total)} %`;
}

/**
 * @param {string} label
 * @param {NodeJS.WriteStream} stream
 * @returns {ProgressDisplay}
 */
function lines(label, stream) {
  let next = 10;
  return {
    update({ received, total }) {
      if (!total) return;
      const percent = Math.floor((100 * received) / total);
      if (percent < next) return;
      next = percent - (percent % 10) + 10;
      stream.write(`  ${label}: ${percent} % of ${bytes(total)}\n`);
    },
    done() {},
  };
}

/**
 * @param {number} received
 * @param {number | undefined} total
 */
function amount(received, total) {
  return total ? `${bytes(received)} of ${bytes(total)}` : bytes(received);
}

/**
 * A number of bytes as people read it.
 * @param {number} count
 */
export function bytes(count) {
  if (count < 1e3) return `${Math.round(count)} B`;
  if (count < 1e6) return `${(count / 1e3).toFixed(0)} kB`;
  return count < 1e9 ? `${(count / 1e6).toFixed(1)} MB` : `${(count / 1e9).toFixed(2)} GB`;
}
