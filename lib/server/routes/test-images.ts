import { z } from 'zod';
import type { ServiceApp, ServiceContext } from '../context.js';
import { RequestError } from '../errors.js';
import { idParams, problem, testImage } from '../schemas.js';

/** Images of the test part, with what the head of each layer says of them. */
export function testImageRoutes(app: ServiceApp, { runs, testImages }: ServiceContext): void {
  const refusals = { 404: problem, 409: problem };
  app.get(
    '/runs/:id/test-images',
    {
      schema: {
        ...{ tags: ['classify'], summary: 'Test images, and what each layer takes them for', params: idParams },
        response: { 200: z.array(testImage), ...refusals },
      },
    },
    async ({ params }) => {
      const { images } = await testImages.of(await runs.finished(params.id));
      return [...images];
    },
  );
  app.get(
    '/runs/:id/test-images/:index',
    {
      schema: {
        ...{ tags: ['classify'], summary: 'A test image as PNG, by its index' },
        params: idParams.extend({ index: z.coerce.number().int().min(0) }),
      },
    },
    async ({ params: { id, index } }, reply) => {
      const { images, pictures } = await testImages.of(await runs.finished(id));
      const picture = pictures[images.findIndex((image) => image.index === index)];
      if (picture === undefined)
        throw new RequestError(404, 'IMAGE_UNKNOWN', `test image ${index} is not among those shown`);
      return reply.type('image/png').header('cache-control', 'no-cache').send(Buffer.from(picture));
    },
  );
}
