import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { OPEN, type ServiceApp } from '../context.js';
import { RequestError } from '../errors.js';
import { datasets, presets } from '../schemas.js';
import { serviceStyles } from './page-styles.js';

/** Nothing from elsewhere, and nothing in the page itself that runs. */
const POLICY =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'self'";

/** The page and its parts; it uses the other routes. */
export function pageRoutes(app: ServiceApp): void {
  const schema = { hide: true };
  app.get('/', { config: OPEN, schema }, (_, reply) => {
    reply.header('content-security-policy', POLICY).header('x-content-type-options', 'nosniff');
    return reply.type('text/html; charset=utf-8').send(pageAt(app.prefix));
  });
  app.get('/page/page.css', { config: OPEN, schema }, (_, reply) =>
    reply.type('text/css; charset=utf-8').send(serviceStyles),
  );
  app.get(
    '/page/:script',
    { config: OPEN, schema: { ...schema, params: z.object({ script: z.string().regex(/^[a-z-]+\.js$/) }) } },
    async ({ params: { script } }, reply) => {
      const text = await readFile(new URL(`./browser/${script}`, import.meta.url), 'utf8').catch(() => null);
      if (text === null) throw new RequestError(404, 'ROUTE_UNKNOWN', 'there is no such route');
      return reply.type('text/javascript; charset=utf-8').send(text);
    },
  );
}

/** Addresses in it are relative to the prefix, with or without a slash at its end. */
function pageAt(prefix: string): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>layerwise</title>
<base href="${prefix.replace(/\/$/, '')}/">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="page/page.css">
<script id="choices" type="application/json">${JSON.stringify({ presets, datasets })}</script>
<script type="module" src="page/page.js"></script>
<main><noscript>This page needs JavaScript; the routes, in openapi.json, do not.</noscript></main>
</html>
`;
}
