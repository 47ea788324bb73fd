import { once } from 'node:events';
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { z } from 'zod';
import { IntentDocument, ShippedFile } from '../../protocol/command.ts';
import { Refused } from '../../protocol/refusal.ts';
import { RunId } from '../../protocol/run-id.ts';
import { MAX_COMMAND_BYTES } from '../../protocol/wire.ts';
import { LOCAL } from '../admission/admitted.ts';
import { refusals } from '../refusals.ts';
import type { StoredRun } from '../store/runs.ts';
import { createHostCommand } from '../triggers/host-command.ts';
import type { EndpointDeps } from './endpoint.ts';
import { readLimitedBody, sendJson } from './http-io.ts';
import { streamAudit, streamRunLog } from './local-streams.ts';
import type { ReloadResult } from './reload.ts';
import { toRunView } from './run-view.ts';
import { type SelftestEndpoint, SelftestReport } from './selftest-endpoint.ts';

/** The agent's own socket in `state_dir`: a user who may open it may do everything that this host can do. */
export const SOCKET = 'agent.sock';

/** The command that the command line sends to start a run. */
export const LocalCommand = z.strictObject({
  type: z.enum(['run', 'plan']),
  id: RunId,
  actor: z.string().max(64),
  intents: z.array(IntentDocument).min(1).max(100),
  files: z.array(ShippedFile).max(5000),
  params: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
});
export type LocalCommand = z.infer<typeof LocalCommand>;

export interface LocalApiDeps extends EndpointDeps {
  /** Reads agent.yaml and the agent's keys again. */
  reload: () => ReloadResult;
  selftest: Pick<SelftestEndpoint, 'start' | 'signReport'>;
}

const MAX_LISTED = 500;

interface LocalRequest extends LocalApiDeps {
  /** The part of the path for which the route has `:id`. */
  id: string;
  query: URLSearchParams;
  response: ServerResponse;
  /** Reads the body. Throws `Refused`. */
  body: <T>(schema: z.ZodType<T>) => Promise<T>;
}

/** Answers a request: with a status and JSON, or, if it returns nothing, by itself. Throws `Refused`. */
type Handler = (request: LocalRequest) => Promise<readonly [status: number, body: object] | undefined>;

const ROUTES: Record<string, { GET?: Handler; POST?: Handler }> = {
  '/runs': {
    async GET({ store, query }) {
      const limit = Math.min(Number(query.get('limit')) || 20, MAX_LISTED);
      return [200, { runs: store.list(limit, query.get('before') ?? undefined) }];
    },
    POST: async request => [202, await startRun(await request.body(LocalCommand), request)],
  },
  '/runs/:id': { GET: async request => [200, toRunView(requireRun(request))] },
  // JSON lines; with `follow` in the query they continue to the end of the run.
  '/runs/:id/log': {
    GET: async request => await streamRunLog(request.runs, requireRun(request), request.query, request.response),
  },
  '/runs/:id/cancel': {
    async POST(request) {
      const { actor } = await request.body(z.strictObject({ actor: z.string().max(64) }));
      const { id } = requireRun(request);
      request.runs.cancel(id, { trust: LOCAL, keyId: '', actor, address: LOCAL });
      return [202, { run: id }];
    },
  },
  '/audit': { GET: async ({ queries, response }) => await streamAudit(queries, response) },
  '/schedules': { GET: async ({ queries }) => [200, { schedules: queries.schedules() }] },
  '/notify/test': {
    async POST({ queries, body }) {
      const { channel } = await body(z.strictObject({ channel: z.string().max(128).optional() }));
      return [200, { results: await queries.testNotices(channel) }];
    },
  },
  '/reload': { POST: async ({ reload }) => [200, reload()] },
  '/selftest': {
    async POST({ selftest, body }) {
      selftest.start((await body(z.strictObject({ key: z.string().max(200) }))).key);
      return [200, {}];
    },
  },
  '/selftest/report': {
    POST: async ({ selftest, body }) => [200, selftest.signReport(await body(SelftestReport))],
  },
};

/** The HTTP API for the command line on this host, over a unix socket of mode 0600. */
export class LocalApi {
  readonly #deps: LocalApiDeps;
  readonly #http: Server;

  constructor(deps: LocalApiDeps) {
    this.#deps = deps;
    this.#http = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        if (error instanceof Refused) {
          deps.recorder.refused(error.refusal, { address: LOCAL });
          return sendJson(response, error.code === 'run-unknown' ? 404 : 409, error.refusal);
        }
        console.error('local: fault:', error);
        response.destroy();
      });
    });
  }

  async listen(path: string): Promise<void> {
    // Remove the socket of an agent that was killed. While an agent runs, no second one gets here: the port is in use.
    rmSync(path, { force: true });
    this.#http.listen(path);
    await once(this.#http, 'listening');
    chmodSync(path, 0o600);
  }

  async close(): Promise<void> {
    const closed = once(this.#http, 'close');
    this.#http.close();
    this.#http.closeAllConnections();
    await closed;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://agent');
    const { route, id } = findRoute(url.pathname);
    if (!route) return sendJson(response, 404, { message: 'Unknown path.' });
    const handler = request.method === 'GET' ? route.GET : request.method === 'POST' ? route.POST : undefined;
    if (!handler) return sendJson(response, 405, { message: 'This path does not support the method.' });
    const body = <T>(schema: z.ZodType<T>) => parseBody(request, schema);
    const answer = await handler({ ...this.#deps, id, query: url.searchParams, response, body });
    if (answer) sendJson(response, ...answer);
  }
}

function findRoute(path: string): { route: (typeof ROUTES)[string] | undefined; id: string } {
  const [, top, id = '', ...rest] = path.split('/');
  const pattern = top === 'runs' && id !== '' ? ['', top, ':id', ...rest].join('/') : path;
  return { route: Object.hasOwn(ROUTES, pattern) ? ROUTES[pattern] : undefined, id };
}

/** Throws `Refused`. */
function requireRun({ store, id }: LocalRequest): StoredRun {
  const run = store.find(id);
  if (!run) throw new Refused(refusals.runUnknown(id));
  return run;
}

/** Throws `Refused`. */
async function startRun(
  { type, id, actor, intents, files, params }: LocalCommand,
  { live, admission, runs }: LocalRequest,
): Promise<{ run: string; joined: boolean }> {
  const { agent } = live.current;
  const command = createHostCommand({ type, id, agent, actor, event: 'local', intents, files, params });
  return runs.begin(await admission.admit(command, { kind: 'local' }));
}

async function parseBody<T>(request: IncomingMessage, schema: z.ZodType<T>): Promise<T> {
  const body = await readLimitedBody(request, MAX_COMMAND_BYTES);
  if (!body) throw new Refused(refusals.frameMalformed('it is too large'));
  let value: unknown;
  try {
    value = JSON.parse(body.toString() || '{}');
  } catch {
    throw new Refused(refusals.frameMalformed('it is not JSON'));
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new Refused(refusals.commandMalformed(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'unknown'}.`));
}
