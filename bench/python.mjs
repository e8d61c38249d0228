// The PyTorch reference: a Python process that measures on request.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** @import { DispatchRequest, EpochRequest, LayerRequest, Problem, RateRequest } from './ours.mjs' */

/**
 * What reference/serve.py measures, by name, with what it reads of a request.
 * @typedef {{ variant: Variant }} OfVariant
 * @typedef {'published' | 'tuned'} Variant the reference as it is published, or with what makes PyTorch fast
 * @typedef {DispatchRequest & { measure: 'dispatch' }
 *   | RateRequest & { measure: 'rate' }
 *   | LayerRequest & OfVariant & { measure: 'step' }
 *   | EpochRequest & OfVariant & { measure: 'epoch' }
 *   | LayerRequest & { measure: 'operations' }
 *   | LayerRequest & { measure: 'memory', end_to_end: boolean }
 *   | Pick<Problem, 'network' | 'size'> & { measure: 'export_onnx', file: string }} ReferenceRequest
 * @typedef {Pick<Problem, 'network' | 'size'>
 *   & { measure: 'serve', concurrent: number, seconds: number, most_at_once: number }} ServeRequest
 * @typedef {{ rate: number, p50: number, p99: number }} Served images a second, milliseconds
 */

const SERVER = fileURLToPath(new URL('./reference/serve.py', import.meta.url));

export class Reference {
  #process;
  #lines;

  /**
   * @param {string} python
   * @param {number} threads
   */
  constructor(python, threads) {
    this.#process = spawn(python, [SERVER, String(threads)], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, OMP_NUM_THREADS: String(threads) },
    });
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  /**
   * Starts the process; resolves to its versions. Rejects where there is no Python with PyTorch.
   * @param {string} python
   * @param {number} threads
   * @returns {Promise<{ reference: Reference, versions: { torch: string, python: string } }>}
   */
  static async start(python, threads) {
    const reference = new Reference(python, threads);
    /** @type {Promise<never>} */
    const failed = new Promise((_, reject) => {
      reference.#process.on('error', (error) => reject(new Error(`${python}: ${error.message}`)));
    });
    const versions = await Promise.race([reference.#answer(), failed]);
    return { reference, versions };
  }

  async #answer() {
    const { value, done } = await this.#lines.next();
    if (done)
      throw new Error('the Python process ended; it needs PyTorch and NumPy (LAYERWISE_BENCH_PYTHON names another)');
    return JSON.parse(value);
  }

  /**
   * One measurement. Throws where the reference fails.
   * @param {ReferenceRequest} request
   * @returns {Promise<number>}
   */
  measure(request) {
    return this.#ask(request);
  }

  /**
   * Calls of a trained network, as `measure`.
   * @param {ServeRequest} request
   * @returns {Promise<Served>}
   */
  serve(request) {
    return this.#ask(request);
  }

  /**
   * @template Value
   * @param {object} request
   * @returns {Promise<Value>}
   */
  async #ask(request) {
    this.#process.stdin.write(`${JSON.stringify(request)}\n`);
    /** @type {{ value: Value, error?: undefined } | { error: string }} */
    const answer = await this.#answer();
    if (answer.error !== undefined) throw new Error(`reference: ${answer.error}`);
    return answer.value;
  }

  stop() {
    this.#process.stdin.end();
  }
}
