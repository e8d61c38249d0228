import type { TrainingEvent } from '../../training/index.js';
import type { ServiceApp, ServiceContext } from '../context.js';
import { EventStream } from '../event-stream.js';
import { idParams } from '../schemas.js';

/** A stream that cannot be followed is closed. */
async function openly(events: EventStream, follow: () => void | Promise<void>): Promise<void> {
  try {
    await follow();
  } catch (error) {
    events.stream.destroy();
    throw error;
  }
}

/** Server-sent events: of one run all that it tells, of all runs how they change. Answers to HEAD would be streams that nobody ends. */
export function followRoutes(app: ServiceApp, { runs }: ServiceContext): void {
  app.get(
    '/runs/:id/events',
    {
      exposeHeadRoute: false,
      schema: {
        tags: ['runs'],
        summary: 'Follows a run: first `run`, how it stands, then `state` and what training tells, by type',
        params: idParams,
      },
    },
    async ({ params: { id } }, reply) => {
      const events = new EventStream();
      await openly(events, () =>
        runs.followRun(id, events, (told) => {
          if (told.type === 'state') events.send('state', { state: told.state });
          else events.send(told.event.type, toldOf(told.event));
        }),
      );
      return reply.header('cache-control', 'no-store').type('text/event-stream').send(events.stream);
    },
  );
  app.get(
    '/events',
    { exposeHeadRoute: false, schema: { tags: ['runs'], summary: 'Follows all runs: `state` and `epoch` of each' } },
    async (_, reply) => {
      const events = new EventStream();
      await openly(events, () =>
        runs.follow(events, (told) => {
          if (told.type === 'state') events.send('state', { id: told.id, state: told.state });
          else if (told.event.type === 'epoch') events.send('epoch', { id: told.id, ...told.event });
        }),
      );
      events.send('open', {});
      return reply.header('cache-control', 'no-store').type('text/event-stream').send(events.stream);
    },
  );
}

/** A run's events without what is long or the machine's own. */
function toldOf(event: TrainingEvent): object {
  if (event.type === 'start') return { notes: event.notes, resumedFrom: event.resumedFrom };
  if (event.type === 'done') return { result: event.result };
  const { type: _, ...told } = event;
  return told;
}
