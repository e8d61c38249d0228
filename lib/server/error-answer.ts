import type { IncomingMessage } from 'node:http';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod';
import { DataError } from '../data/index.js';
import { PredictorError, type PredictorErrorCode } from '../predictor/index.js';
import { RequestError } from './errors.js';

/** What a client is told: why, in words, and a code; never a stack, a path of the machine, or what the program holds. */
interface Answer {
  readonly status: number;
  readonly code: string;
  readonly message: string;
}

/** Answers an error. What is the server's own fault is logged whole, and the client is told that it happened. */
export async function answerError(
  error: FastifyError | Error,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const answer = answerOf(error);
  if (answer.status >= 500) request.log.error({ err: error }, 'a request failed');
  else if (error.cause !== undefined) request.log.warn({ err: error }, 'a request was refused');
  const isForNow = answer.status === 429 || answer.status === 503;
  if (isForNow && !reply.hasHeader('retry-after')) reply.header('retry-after', '1');
  if (answer.status === 401) reply.header('www-authenticate', 'Bearer');
  // The connection is closed behind it, which a client that still sends takes for a failure of its own, without an answer.
  if (answer.status === 413) await sentToItsEnd(request.raw);
  return reply.code(answer.status).send({ code: answer.code, message: answer.message });
}

/** A client that has more to send is not waited for any longer. */
const MOST_SENDING_MS = 2_000;

/** Resolves when the body has come, and was thrown away. */
async function sentToItsEnd(request: IncomingMessage): Promise<void> {
  if (request.readableEnded || request.destroyed) return;
  const end = AbortSignal.timeout(MOST_SENDING_MS);
  await new Promise<void>((resolve) => {
    for (const event of ['end', 'close', 'error'] as const) request.once(event, () => resolve());
    end.addEventListener('abort', () => resolve());
    request.resume();
  });
}

function answerOf(error: FastifyError | Error): Answer {
  if (hasZodFastifySchemaValidationErrors(error)) {
    const problems = error.validation.map(({ instancePath, message }) => `${instancePath || '/'}: ${message}`);
    return { status: 400, code: 'INVALID_ARGUMENT', message: problems.join('; ') };
  }
  if (error instanceof RequestError) return { status: error.statusCode, code: error.code, message: error.message };
  if (error instanceof DataError) return { status: 422, code: error.code, message: error.message };
  const status = error instanceof PredictorError ? STATUS[error.code] : undefined;
  if (status !== undefined) return { status, code: (error as PredictorError).code, message: error.message };
  const { statusCode, code } = error as FastifyError;
  if (statusCode === 401) return { status: 401, code: 'UNAUTHORIZED', message: error.message };
  // Fastify's own refusals: no route, a body that is too large, another content type.
  if (statusCode !== undefined && statusCode < 500)
    return { status: statusCode, code: code ?? 'REFUSED', message: error.message };
  return { status: 500, code: 'INTERNAL', message: 'the server failed; its log has the reason' };
}

/** Of the others the reason is the server's own. */
const STATUS: Readonly<Partial<Record<PredictorErrorCode, number>>> = {
  INVALID_ARGUMENT: 400,
  QUEUE_FULL: 429,
  CLOSED: 503,
};
