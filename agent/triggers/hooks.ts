import { createHash, createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import { parseDuration } from '../../intents/duration.ts';
import { InvalidIntents } from '../../intents/problem.ts';
import type { Deployment } from '../../protocol/command.ts';
import { messageOf, type Refusal, Refused } from '../../protocol/refusal.ts';
import { type Hook, PRESETS } from '../config/hooks.ts';
import { refusals } from '../refusals.ts';
import { readSecrets } from '../system/secret-file.ts';

/** What came in, as far as a hook looks at it. */
export interface HookDelivery {
  name: string;
  /** What stands behind the name in the path. */
  secret: string | undefined;
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
}

/** The answer: `run` where one began, `ignored` where the payload is about something else. */
export type HookAnswer = { run: string } | { ignored: string };

export interface WebhookHandlerOptions {
  hooks: () => readonly Hook[];
  /** How many runs of a hook have begun since a time, and when the last did (both by ISO 8601). */
  past: (hook: string, since: string) => { count: number; latest: string | undefined };
  begin: (hook: Hook, run: string, params: Deployment['params']) => Promise<void>;
  now?: () => Date;
}

const HOUR = 3_600_000;

/** Begins runs when others say that something happened: what they may say is declared, and how often. */
export class WebhookHandler {
  readonly #options: WebhookHandlerOptions;
  readonly #now: () => Date;

  constructor(options: WebhookHandlerOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => new Date());
  }

  /** Throws `Refused`: `hook-unknown`, `hook-unauthorized`, `hook-malformed`, `hook-param`, `hook-cooldown`, `hook-limit`, and those of the policy. */
  async handle(delivery: HookDelivery): Promise<HookAnswer> {
    const hook = this.#options.hooks().find(({ name }) => name === delivery.name);
    if (!hook) throw new Refused(refusals.hookUnknown(delivery.name));
    if (!isAuthentic(hook, delivery)) throw new Refused(refusals.hookUnauthorized(hook.name));
    const payload = parsePayload(delivery.body, hook.name);
    const other = explainIgnored(hook, payload);
    if (other !== undefined) return { ignored: other };
    const params = extractParams(hook, payload);
    this.#checkOften(hook);
    const run = randomUUID();
    try {
      await this.#options.begin(hook, run, params);
    } catch (error) {
      if (error instanceof InvalidIntents)
        throw new Refused(refusals.hookMalformed(hook.name, error.message.split('\n')[0] ?? ''));
      throw error;
    }
    return { run };
  }

  #checkOften({ name, cooldown, max_per_hour }: Hook): void {
    const now = this.#now().getTime();
    const { count, latest } = this.#options.past(name, new Date(now - HOUR).toISOString());
    const wait = latest === undefined ? 0 : Date.parse(latest) + parseDuration(cooldown) - now;
    if (wait > 0) throw new Refused(refusals.hookCooldown(name, Math.ceil(wait / 1000)));
    if (count >= max_per_hour) throw new Refused(refusals.hookLimit(name, max_per_hour));
  }
}

/** The HTTP status of a refusal at a hook. */
export function statusOf({ code }: Refusal): number {
  switch (code) {
    case 'hook-unknown':
      return 404;
    case 'hook-unauthorized':
      return 401;
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

/** Each way in constant time, with each secret while one is being changed. One that can't be read opens nothing. */
function isAuthentic(
  { name, hmac_file, token_file, path_file }: Hook,
  { headers, secret, body }: HookDelivery,
): boolean {
  try {
    if (hmac_file !== undefined) {
      const given = String(headers['x-hub-signature-256'] ?? '');
      const signature = (secret: string) => `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
      return readSecrets(hmac_file).some(one => isSame(given, signature(one)));
    }
    if (token_file !== undefined) {
      const given = String(headers.authorization ?? '');
      return readSecrets(token_file).some(one => isSame(given, `Bearer ${one}`));
    }
    if (path_file !== undefined) return readSecrets(path_file).some(one => isSame(secret ?? '', one));
  } catch (error) {
    console.error(`hook ${name}:`, messageOf(error));
  }
  return false;
}

function isSame(given: string, wanted: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(wanted));
}

function parsePayload(body: Buffer, name: string): unknown {
  try {
    return JSON.parse(body.toString('utf8')) as unknown;
  } catch {
    throw new Refused(refusals.hookMalformed(name, 'it is not JSON'));
  }
}

/** Why the payload is about something that does not count; undefined where it counts. */
function explainIgnored({ preset, on, when }: Hook, payload: unknown): string | undefined {
  const known = PRESETS[preset];
  if (known) {
    const wanted = (on ?? known.usual).map(event => (known.events as Record<string, unknown>)[event]);
    const value = readPath(payload, known.path);
    if (!wanted.some(one => one === value)) return `${known.path} is ${formatValue(value)}`;
  }
  const unlike = when.find(({ path, is }) => !is.some(one => one === readPath(payload, path)));
  return unlike && `${unlike.path} is ${formatValue(readPath(payload, unlike.path))}`;
}

/** Params are taken from the payload through their patterns only. Throws `Refused` `hook-param`. */
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

/** `alerts.0.labels.service`: own keys only, so that no path leads into a prototype. */
function readPath(value: unknown, path: string): unknown {
  let found = value;
  for (const key of path.split('.')) {
    if (typeof found !== 'object' || found === null || !Object.hasOwn(found, key)) return undefined;
    found = (found as Record<string, unknown>)[key];
  }
  return found;
}

function formatValue(value: unknown): string {
  return (JSON.stringify(value) ?? 'not there').slice(0, 100);
}
