import type { IncomingMessage, ServerResponse } from 'node:http';
import { Refused } from '../../protocol/refusal.ts';
import { refusals } from '../refusals.ts';
import { statusOf, type WebhookHandler } from '../triggers/hooks.ts';
import type { ConnectionLimits } from './connection-limits.ts';
import type { EndpointDeps } from './endpoint.ts';
import { pathOf, readLimitedBody, sendJson } from './http-io.ts';

export interface WebhookEndpointDeps extends Pick<EndpointDeps, 'live' | 'recorder'> {
  limits: ConnectionLimits;
  webhooks: Pick<WebhookHandler, 'handle'>;
  /** Counts a delivery by its outcome: `begun`, `ignored` or `refused`. */
  countHook: (hook: string, outcome: string) => void;
}

/** Answers `POST /hooks/NAME` and `POST /hooks/NAME/SECRET`. Another method is refused, and counted like other refusals. */
export async function answerWebhook(
  request: IncomingMessage,
  response: ServerResponse,
  address: string,
  { live, recorder, limits, webhooks, countHook }: WebhookEndpointDeps,
): Promise<void> {
  const [, , name = '', secret, ...rest] = pathOf(request).split('/');
  // An unknown name is not a label: a stranger must not add time series.
  const label = live.current.hooks.some(hook => hook.name === name) ? name : 'unknown';
  let isRead = false;
  try {
    const wait = await limits.secondsToWait(address);
    if (wait > 0) throw new Refused(refusals.rateLimited(wait));
    if (rest.length > 0) throw new Refused(refusals.hookUnknown(name));
    if (request.method !== 'POST') throw new Refused(refusals.hookMethod(name, request.method ?? ''));
    const readBody = (limit: number) => {
      isRead = true;
      return readLimitedBody(request, limit);
    };
    const answer = await webhooks.handle({ name, secret, headers: request.headers, readBody });
    countHook(label, 'run' in answer ? 'begun' : 'ignored');
    sendJson(response, 'run' in answer ? 202 : 200, answer);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (!isRead && (await limits.countUnreadBody(address))) return;
    countHook(label, 'refused');
    recorder.refused(error.refusal, { address });
    const status = error.code === 'rate-limited' ? 429 : statusOf(error.refusal);
    // Close the connection: the request body was not fully read.
    response.setHeader('Connection', 'close');
    if (status === 405) response.setHeader('Allow', 'POST');
    sendJson(response, status, error.refusal);
  }
}
