import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Refusal } from '../../protocol/refusal.ts';
import { WIRE_PATH } from '../../protocol/wire.ts';
import { refusals } from '../refusals.ts';
import { checkReadAccess, isOwnHost } from './http-access.ts';
import { addressOf, pathOf, sendJson } from './http-io.ts';
import type { PeerAccess } from './peer-access.ts';
import { answerWebhook, type WebhookEndpointDeps } from './webhook-endpoint.ts';

export interface HttpEndpointDeps extends WebhookEndpointDeps {
  /** Returns the metrics as text. */
  readMetrics: () => Promise<string>;
  /** Lists what is not ready, one line each; empty if all is. */
  checkReadiness: () => Promise<string[]>;
}

/** Answers a plain HTTP request: webhooks, /healthz, /readyz and /metrics. Checks address and host name first. */
export async function answerRequest(
  request: IncomingMessage,
  response: ServerResponse,
  deps: HttpEndpointDeps,
  peers: PeerAccess,
): Promise<void> {
  const { live, recorder, limits } = deps;
  const address = addressOf(request.socket);
  const path = pathOf(request);
  const isHook = path.startsWith('/hooks/');
  if (hasBody(request)) {
    // No answer here depends on a body, except that of a hook: the connection ends before the rest of it is read.
    response.setHeader('Connection', 'close');
    if (!isHook && (await limits.countUnreadBody(address))) return;
  }
  const refuse = (status: number, refusal: Refusal) => {
    recorder.refused(refusal, { address });
    return sendJson(response, status, refusal);
  };
  if (!limits.isAllowed(address)) return refuse(403, refusals.addressNotAllowed(address));
  const { host } = request.headers;
  if (!isOwnHost(host, live.current)) return refuse(421, refusals.hostNotOwn(host ?? ''));
  if (isHook) return await answerWebhook(request, response, address, deps);
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return sendJson(response, 405, { message: 'This endpoint serves only GET.' });
  if (path === '/healthz') return sendJson(response, 200, { status: 'alive' });
  const from = { address, port: request.socket.remotePort ?? 0 };
  const accessRefusal = await checkReadAccess(request, from, live.current, peers);
  if (accessRefusal) {
    response.setHeader('WWW-Authenticate', 'Bearer');
    return refuse(401, accessRefusal);
  }
  switch (path) {
    case '/readyz': {
      const unready = await deps.checkReadiness();
      const isReady = unready.length === 0;
      return sendJson(response, isReady ? 200 : 503, { status: isReady ? 'ready' : 'not ready', unready });
    }
    case '/metrics':
      response.setHeader('Content-Type', 'text/plain; version=0.0.4; charset=utf-8');
      response.end(await deps.readMetrics());
      return;
    default:
      return sendJson(response, 404, {
        message: `Unknown path. Known paths: ${WIRE_PATH} (WebSocket), /healthz, /readyz and /metrics.`,
      });
  }
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0';
}
