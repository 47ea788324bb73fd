import { once } from 'node:events';
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { z } from 'zod';
import { IntentDocument, ShippedFile } from '../../protocol/command.ts';
import { decodeFrame } from '../../protocol/event.ts';
import { type Refusal, Refused } from '../../protocol/refusal.ts';
import { RunId } from '../../protocol/run-id.ts';
import { MAX_FRAME_BYTES } from '../../protocol/wire.ts';
import { admitLocal, LOCAL } from '../admission/admit.ts';
import type { Config } from '../config/load.ts';
import type { Executor, HostSite } from '../executors/executor.ts';
import type { RefusedCommand } from '../observability/audit.ts';
import { refusals } from '../refusals.ts';
import type { RunRegistry } from '../runs/registry.ts';
import type { AuditLog } from '../store/audit-log.ts';
import type { StoredRun } from '../store/runs.ts';
import type { ListedSchedule } from '../store/schedules.ts';
import { createHostCommand } from '../triggers/host-command.ts';
import { toRunView } from './run-view.ts';

/** The agent's own socket in `state_dir`: whoever may open it may do everything that this host can do. */
export const SOCKET = 'agent.sock';

/** What the command line sends to begin a run. */
export const LocalCommand = z.strictObject({
  type: z.enum(['run', 'plan']),
  id: RunId,
  actor: z.string().max(64),
  intents: z.array(IntentDocument).min(1).max(100),
  files: z.array(ShippedFile).max(5000),
  params: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
});

export type LocalCommand = z.infer<typeof LocalCommand>;

/** What `chatops selftest` found. */
const SelftestReport = z.strictObject({
  agent: z.string(),
  version: z.string(),
  at: z.string(),
  attacks: z.int(),
  failed: z.int(),
  results: z
    .array(z.strictObject({ name: z.string(), right: z.array(z.string()), got: z.string(), passed: z.boolean() }))
    .max(500),
});

export interface LocalApiDeps {
  runs: RunRegistry;
  executors: Executor[];
  config: () => Config;
  site: () => HostSite;
  refused: (refusal: Refusal, who: RefusedCommand) => void;
  audit: AuditLog;
  schedules: () => ListedSchedule[];
  /** Sends a notice for a trial, to one channel or to each. */
  notifyTest: (channel: string | undefined) => Promise<{ channel: string; problem: string | null }[]>;
  /** Reads agent.yaml and the agent's keys again. */
  reload: () => { taken: boolean; message: string };
  /** Begins a selftest: trusts that key for a while, for next to nothing. Throws a KeyError. */
  selftest: (key: string) => void;
  /** Signs a selftest's report with the agent's own keys. Throws `Refused` where none was begun. */
  signReport: (report: object) => object;
}

const MAX_LISTED = 500;
const AUDIT_PAGE = 500;

/**
 * The door for the command line on the host, HTTP over a unix socket of mode 0600:
 * `GET /runs`, `GET /runs/ID`, `GET /runs/ID/log` (JSON lines, live with `follow=1`), `POST /runs`, `POST /runs/ID/cancel`, `GET /audit` (JSON lines), `GET /schedules`, `POST /notify/test`, `POST /reload`, `POST /selftest`, `POST /selftest/report`.
 */
export class LocalApi {
  readonly #deps: LocalApiDeps;
  readonly #http: Server;

  constructor(doors: LocalApiDeps) {
    this.#deps = doors;
    this.#http = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        if (error instanceof Refused) {
          doors.refused(error.refusal, { address: LOCAL });
          return sendJson(response, error.code === 'run-unknown' ? 404 : 409, error.refusal);
        }
        console.error('local: fault:', error);
        response.destroy();
      });
    });
  }

  async listen(path: string): Promise<void> {
    // What an agent left that was killed; one that lives holds the port and this one would not be here.
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
    const { runs } = this.#deps;
    const url = new URL(request.url ?? '/', 'http://agent');
    const [top, id, what, ...rest] = url.pathname.slice(1).split('/');
    if (top === 'audit' && id === undefined && request.method === 'GET') return await this.#audit(response);
    if (top === 'schedules' && id === undefined && request.method === 'GET')
      return sendJson(response, 200, { schedules: this.#deps.schedules() });
    if (top === 'notify' && id === 'test' && request.method === 'POST') {
      const { channel } = await readBody(request, z.strictObject({ channel: z.string().max(128).optional() }));
      return sendJson(response, 200, { results: await this.#deps.notifyTest(channel) });
    }
    if (top === 'reload' && id === undefined && request.method === 'POST')
      return sendJson(response, 200, this.#deps.reload());
    if (top === 'selftest' && request.method === 'POST') return await this.#selftest(id, request, response);
    if (top !== 'runs' || rest.length > 0) return sendJson(response, 404, { message: 'Nothing is here.' });
    switch (`${request.method} ${id === undefined ? '' : 'ID'}/${what ?? ''}`) {
      case 'GET /': {
        const limit = Math.min(Number(url.searchParams.get('limit')) || 20, MAX_LISTED);
        return sendJson(response, 200, { runs: runs.store.list(limit, url.searchParams.get('before') ?? undefined) });
      }
      case 'GET ID/':
        return sendJson(response, 200, toRunView(this.#find(id)));
      case 'GET ID/log':
        return await this.#log(this.#find(id), url.searchParams, response);
      case 'POST ID/cancel': {
        const actor = (await readBody(request, z.strictObject({ actor: z.string().max(64) }))).actor;
        runs.cancel(this.#find(id).id, { trust: LOCAL, keyId: '', actor, address: LOCAL });
        return sendJson(response, 202, { run: id });
      }
      case 'POST /':
        return sendJson(response, 202, await this.#begin(await readBody(request, LocalCommand)));
      default:
        return sendJson(response, 405, { message: 'This can’t be done here.' });
    }
  }

  async #selftest(what: string | undefined, request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (what === 'report')
      return sendJson(response, 200, this.#deps.signReport(await readBody(request, SelftestReport)));
    const { key } = await readBody(request, z.strictObject({ key: z.string().max(200) }));
    this.#deps.selftest(key);
    return sendJson(response, 200, {});
  }

  /** All of the audit, a row a line. */
  async #audit(response: ServerResponse): Promise<void> {
    response.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
    const closed = once(response, 'close');
    const last = this.#deps.audit.head.n;
    for (let n = 0; n < last && !response.destroyed; ) {
      const rows = this.#deps.audit.rows(n, AUDIT_PAGE);
      if (rows.length === 0) break;
      n = rows.at(-1)?.n ?? last;
      const text = rows.map(row => `${JSON.stringify(row)}\n`).join('');
      if (!response.write(text)) await Promise.race([once(response, 'drain'), closed]);
    }
    response.end();
  }

  #find(id: string | undefined): StoredRun {
    const run = this.#deps.runs.store.find(id ?? '');
    if (!run) throw new Refused(refusals.runUnknown(id ?? ''));
    return run;
  }

  async #begin({ type, id, actor, intents, files, params }: LocalCommand): Promise<{ run: string }> {
    const { runs, executors, config, site } = this.#deps;
    const command = createHostCommand({
      type,
      id,
      agent: config().agent,
      actor,
      event: 'local',
      intents,
      files,
      params,
    });
    return runs.begin(await admitLocal(command, LOCAL, { executors, site: site() }));
  }

  async #log(run: StoredRun, query: URLSearchParams, response: ServerResponse): Promise<void> {
    const closed = new AbortController();
    response.on('close', () => closed.abort());
    response.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
    // Without "follow" only what is there: up to the last event that is stored now.
    const last = query.has('follow') ? Number.POSITIVE_INFINITY : run.events;
    let n = Number(query.get('after')) || 0;
    if (n < last || run.receipt !== null) {
      for await (const frame of this.#deps.runs.follow(run.id, n, closed.signal)) {
        if (!response.write(`${JSON.stringify(decodeFrame(String(frame)))}\n`)) {
          await Promise.race([once(response, 'drain'), once(response, 'close')]);
        }
        if (++n >= last && run.receipt === null) break;
      }
    }
    response.end();
  }
}

async function readBody<T>(request: IncomingMessage, schema: z.ZodType<T>): Promise<T> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > MAX_FRAME_BYTES) throw new Refused(refusals.frameMalformed('it is too large'));
  }
  let value: unknown;
  try {
    value = JSON.parse(Buffer.concat(chunks).toString() || '{}');
  } catch {
    throw new Refused(refusals.frameMalformed('it is not JSON'));
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new Refused(refusals.commandMalformed(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'unknown'}.`));
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(`${JSON.stringify(body)}\n`);
}
