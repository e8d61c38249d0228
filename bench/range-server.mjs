// A web server of a folder, for bench/shards.mjs: `range-server.mjs FOLDER MILLISECONDS`, so long after which it begins to answer. It gives
// whole files, and parts of them by their range.
import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

const [folder = '', delay = '0'] = process.argv.slice(2);

const server = createServer((request, response) => {
  const answer = () => {
    const path = join(folder, new URL(request.url ?? '', 'http://localhost').pathname);
    const { size } = statSync(path);
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    const [start, end] = first === undefined ? [0, size - 1] : [Number(first), Number(last)];
    const headers = { 'content-length': end - start + 1, 'content-range': `bytes ${start}-${end}/${size}` };
    response.writeHead(first === undefined ? 200 : 206, headers);
    createReadStream(path, { start, end }).pipe(response);
  };
  if (delay === '0') answer();
  else setTimeout(answer, Number(delay));
});
server.listen(0, '127.0.0.1', () =>
  process.send?.(/** @type {import('node:net').AddressInfo} */ (server.address()).port),
);
process.on('disconnect', () => process.exit());
