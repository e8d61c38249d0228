// The PyTorch reference: a Python process that measures on request.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const SERVER = fileURLToPath(new URL('./reference/serve.py', import.meta.url));

export class Reference {
  #process;
  #lines;

  constructor(python, threads) {
    this.#process = spawn(python, [SERVER, String(threads)], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, OMP_NUM_THREADS: String(threads) },
    });
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  /** Starts the process; resolves to its versions. Rejects where there is no Python with PyTorch. */
  static async start(python, threads) {
    const reference = new Reference(python, threads);
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

  async measure(request) {
    this.#process.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, error } = await this.#answer();
    if (error !== undefined) throw new Error(`reference: ${error}`);
    return value;
  }

  stop() {
    this.#process.stdin.end();
  }
}
