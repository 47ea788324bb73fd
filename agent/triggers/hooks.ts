import { createHash, createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import { parseDuration } from '../../intents/duration.ts';
import { InvalidIntents } from '../../intents/problem.ts';
import type { Deployment } from '../../protocol/command.ts';
import { messageOf, type Refusal, Refused } from '../../protocol/refusal.ts';
import { type Hook, PRESETS } from '../config/hooks.ts';
import { refusals } from '../refusals.ts';
import { readSecrets } from '../system/secret-file.ts';
import { readPayload } from './hook-payload.ts';

/** An HTTP request to a hook. */
export interface HookDelivery {
  name: string;
  /** The path segment after the name. */
  secret: string | undefined;
  headers: Record<string, string | string[] | undefined>;
  /** Reads the body. Returns undefined if it has more than `limit` bytes. */
  readBody: (limit: number) => Promise<Buffer | undefined>;
}

/** The answer: `run` if one started, `ignored` with the reason if the payload matches no condition of the hook. */
export type HookAnswer = { run: string } | { ignored: string };

export interface WebhookHandlerOptions {
  hooks: () => readonly Hook[];
  /** Returns the number of runs that a hook started since a time, and the start of the last one (both ISO 8601). */
  history: (hook: string, since: string) => { count: number; latest: string | undefined };
  start: (hook: Hook, run: string, params: Deployment['params']) => Promise<void>;
  now?: () => Date;
}

const HOUR = 3_600_000;
/** Largest payload of a known sender (the groups of Alertmanager are large), and of a sender that only the body authenticates. */
const MAX_BODY_BYTES = 256 * 1024;
const MAX_UNAUTHENTICATED_BYTES = 64 * 1024;

/** Starts runs on webhooks. agent.yaml declares which payloads, which params and how often. */
export class WebhookHandler {
  readonly #options: WebhookHandlerOptions;
  readonly #now: () => Date;

  constructor(options: WebhookHandlerOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => new Date());
  }

  /**
   * Throws `Refused`: `hook-unknown`, `hook-unauthorized`, `hook-media-type`, `hook-malformed`, `hook-param`, `hook-cooldown`,
   * `hook-limit`, and the refusals of the rules.
   */
  async handle(delivery: HookDelivery): Promise<HookAnswer> {
    const hook = this.#options.hooks().find(({ name }) => name === delivery.name);
    if (!hook) throw new Refused(refusals.hookUnknown(delivery.name));
    const payload = await readPayload(await readAuthentic(hook, delivery), delivery.headers, hook.name);
    const ignored = explainIgnored(hook, payload);
    if (ignored !== undefined) return { ignored };
    const params = extractParams(hook, payload);
    this.#checkRate(hook);
    const run = randomUUID();
    try {
      await this.#options.start(hook, run, params);
    } catch (error) {
      if (error instanceof InvalidIntents)
        throw new Refused(refusals.hookMalformed(hook.name, error.message.split('\n')[0] ?? ''));
      throw error;
    }
    return { run };
  }

  #checkRate({ name, cooldown, max_per_hour }: Hook): void {
    const now = this.#now().getTime();
    const { count, latest } = this.#options.history(name, new Date(now - HOUR).toISOString());
    const wait = latest === undefined ? 0 : Date.parse(latest) + parseDuration(cooldown) - now;
    if (wait > 0) throw new Refused(refusals.hookCooldown(name, Math.ceil(wait / 1000)));
    if (count >= max_per_hour) throw new Refused(refusals.hookLimit(name, max_per_hour));
  }
}

/** Returns the HTTP status for a refusal of a hook. */
export function statusOf({ code }: Refusal): number {
  switch (code) {
    case 'hook-unknown':
      return 404;
    case 'hook-unauthorized':
      return 401;
    case 'hook-method':
      return 405;
    case 'hook-media-type':
      return 415;
    case 'hook-malformed':
    case 'hook-param':
      return 422;
    case 'hook-cooldown':
    case 'hook-limit':
      return 429;
    default:
      return 403;
  }
}

/** Returns the body of an authenticated delivery. Throws `Refused`: `hook-unauthorized`, `hook-malformed`. */
async function readAuthentic(hook: Hook, delivery: HookDelivery): Promise<Buffer> {
  const isSigned = hook.hmac_file !== undefined;
  if (!isSigned && !isAuthentic(hook, delivery)) throw new Refused(refusals.hookUnauthorized(hook.name));
  const limit = isSigned ? MAX_UNAUTHENTICATED_BYTES : MAX_BODY_BYTES;
  const body = await delivery.readBody(limit);
  if (!body) throw new Refused(refusals.hookMalformed(hook.name, `it has more than ${limit / 1024} KiB`));
  if (isSigned && !isAuthentic(hook, delivery, body)) throw new Refused(refusals.hookUnauthorized(hook.name));
  return body;
}

/** Compares in constant time with each secret of the file: two during a rotation. An unreadable secret authenticates nothing. */
function isAuthentic(
  { name, hmac_file, token_file, path_file }: Hook,
  { headers, secret }: HookDelivery,
  body: Buffer = Buffer.alloc(0),
): boolean {
  try {
    if (hmac_file !== undefined) {
      const received = String(headers['x-hub-signature-256'] ?? '');
      const signature = (key: string) => `sha256=${createHmac('sha256', key).update(body).digest('hex')}`;
      return readSecrets(hmac_file).some(secret => isEqual(received, signature(secret)));
    }
    if (token_file !== undefined) {
      const received = String(headers.authorization ?? '');
      return readSecrets(token_file).some(token => isEqual(received, `Bearer ${token}`));
    }
    if (path_file !== undefined) return readSecrets(path_file).some(known => isEqual(secret ?? '', known));
  } catch (error) {
    console.error(`hook ${name}:`, messageOf(error));
  }
  return false;
}

function isEqual(received: string, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(received), digest(expected));
}

/** Returns the reason for which a payload starts no run; undefined if it starts one. */
function explainIgnored({ preset, on, when }: Hook, payload: unknown): string | undefined {
  const source = PRESETS[preset];
  if (source) {
    const accepted = (on ?? source.usual).map(event => (source.events as Record<string, unknown>)[event]);
    const value = readPath(payload, source.path);
    if (!accepted.some(other => other === value)) return `${source.path} is ${formatValue(value)}`;
  }
  const unmet = when.find(({ path, is: values }) => !values.some(value => value === readPath(payload, path)));
  return unmet && `${unmet.path} is ${formatValue(readPath(payload, unmet.path))}`;
}

/** Reads the params that the payload provides; each must match its pattern. Throws `Refused` `hook-param`. */
function extractParams({ name, params }: Hook, payload: unknown): Deployment['params'] {
  return Object.fromEntries(
    Object.entries(params).map(([key, value]) => {
      if (typeof value !== 'object') return [key, value];
      const found = readPath(payload, value.from);
      const text = typeof found === 'number' ? String(found) : found;
      if (typeof text !== 'string' || text.length > 1024 || !new RegExp(`^(?:${value.pattern})$`, 'v').test(text))
        throw new Refused(refusals.hookParam(name, key, value.from));
      return [key, text];
    }),
  );
}

/** Reads a path such as `alerts.0.labels.service`, through own keys only: no path reaches a prototype. */
function readPath(value: unknown, path: string): unknown {
  let found = value;
  for (const key of path.split('.')) {
    if (typeof found !== 'object' || found === null || !Object.hasOwn(found, key)) return undefined;
    found = (found as Record<string, unknown>)[key];
  }
  return found;
}

function formatValue(value: unknown): string {
  return (JSON.stringify(value) ?? 'missing').slice(0, 100);
}
