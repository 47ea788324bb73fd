import { parse as parseYaml } from 'yaml';
import type { AgentAddress } from '../client/deliver.ts';
import { parseDuration } from '../intents/duration.ts';
import type { ParamValue } from '../intents/render.ts';
import { KeyError, readPublicKey, readSecretKey, type SecretKey } from '../protocol/keys.ts';
import { refusals } from './refusals.ts';

export const MODES = ['run', 'plan', 'dry-run', 'validate'] as const;
export type Mode = (typeof MODES)[number];

/** The inputs that every mode has. */
export interface CommonInputs {
  intent: string[];
  intentsDir: string;
  params: Record<string, ParamValue>;
}

/** The inputs of the modes that talk to an agent. */
export interface Inputs extends CommonInputs {
  mode: Exclude<Mode, 'validate'>;
  /** By host name; the one agent of a workflow that names no hosts stands under the empty name. */
  agents: Map<string, AgentAddress>;
  /** A file of the repository that names more of them. */
  hostsFile: string | undefined;
  /** At least one of key and token vouches for commands. */
  signingKey: SecretKey | undefined;
  /** Whether GitHub is asked for a token with each command. */
  oidc: boolean;
  githubToken: string;
  /** Milliseconds. */
  connectTimeout: number;
  timeout: number;
  pullRequest: number | undefined;
  /** Of a plan that somebody has looked at: one for each command, in order. */
  planDigests: string[];
}

type Env = Record<string, string | undefined>;

/** Reads the inputs as the runner passes them (`INPUT_…`). Throws `Refused` `input-invalid`; secrets are in no message. */
export function readInputs(env: Env): Inputs | (CommonInputs & { mode: 'validate' }) {
  const mode = oneOf(env, 'mode', MODES, 'run');
  const intent = lines(read(env, 'intent'));
  if (intent.length === 0)
    throw refusals.inputInvalid(
      'intent',
      'it is empty',
      'Name one intent a line: a name under intents-dir, a path or a glob.',
    );
  const common: CommonInputs = {
    intent,
    intentsDir: read(env, 'intents-dir') || 'chatops/intents',
    params: readParams(read(env, 'params')),
  };
  if (mode === 'validate') return { mode, ...common };
  const oidc = readOidc(env);
  const signingKey = readSigningKey(env, oidc);
  const pullRequest = read(env, 'pull-request');
  if (pullRequest && !/^[1-9]\d{0,9}$/.test(pullRequest)) {
    throw refusals.inputInvalid('pull-request', 'it is not a number', 'Write the number of a merged pull request.');
  }
  const planDigests = lines(read(env, 'plan-digest'));
  if (planDigests.some(digest => !/^[0-9a-f]{64}$/.test(digest)))
    throw refusals.inputInvalid('plan-digest', 'it is no digest', 'Give the output plan-digest of the plan as it is.');
  const hostsFile = read(env, 'hosts-file');
  return {
    mode,
    ...common,
    agents: readAgents(read(env, 'agent'), read(env, 'agent-key'), hostsFile === ''),
    hostsFile: hostsFile || undefined,
    signingKey,
    oidc,
    githubToken: read(env, 'github-token'),
    connectTimeout: duration(env, 'connect-timeout', '30s'),
    timeout: duration(env, 'timeout', '30m'),
    pullRequest: pullRequest ? Number(pullRequest) : undefined,
    planDigests,
  };
}

function read(env: Env, name: string): string {
  return (env[`INPUT_${name.toUpperCase()}`] ?? '').trim();
}

function lines(text: string): string[] {
  return text
    .split('\n')
    .map(line => line.trim())
    .filter(line => line !== '' && !line.startsWith('#'));
}

function oneOf<const T extends string>(env: Env, name: string, values: readonly T[], otherwise: T): T {
  const text = read(env, name) || otherwise;
  const found = values.find(value => value === text);
  if (!found)
    throw refusals.inputInvalid(
      name,
      `"${text.slice(0, 40)}" is not one of its values`,
      `Write one of: ${values.join(', ')}.`,
    );
  return found;
}

function duration(env: Env, name: string, otherwise: string): number {
  try {
    return parseDuration(read(env, name) || otherwise);
  } catch (error) {
    if (error instanceof RangeError)
      throw refusals.inputInvalid(name, 'it is not a duration', 'Write a number and a unit: 30s, 10m, 1h.');
    throw error;
  }
}

/** auto: where the job may have a token, it is asked for. */
export function readOidc(env: Env): boolean {
  const wanted = oneOf(env, 'oidc', ['auto', 'true', 'false'], 'auto');
  const isThere = Boolean(env.ACTIONS_ID_TOKEN_REQUEST_URL && env.ACTIONS_ID_TOKEN_REQUEST_TOKEN);
  if (wanted === 'true' && !isThere)
    throw refusals.inputInvalid(
      'oidc',
      'the job has no right to a token',
      'Give the job "permissions: id-token: write".',
    );
  return wanted !== 'false' && isThere;
}

/** Undefined where a token alone is to vouch. */
function readSigningKey(env: Env, oidc: boolean): SecretKey | undefined {
  const text = read(env, 'signing-key');
  if (!text && oidc) return undefined;
  if (!text)
    throw refusals.inputInvalid(
      'signing-key',
      'it is empty',
      'Pass a secret that holds what "chatops keygen" printed, or give the job "permissions: id-token: write" for an agent that takes GitHub’s tokens. (Secrets are empty in workflows of forks.)',
    );
  const key = keyed('signing-key', () => readSecretKey(text));
  const wanted = read(env, 'key-id');
  if (wanted && wanted !== key.public.id) {
    throw refusals.inputInvalid(
      'key-id',
      `the signing key's id is ${key.public.id}`,
      'Leave key-id out, or pass the key that it names.',
    );
  }
  return key;
}

function keyed<T>(name: string, reading: () => T): T {
  try {
    return reading();
  } catch (error) {
    if (error instanceof KeyError)
      throw refusals.inputInvalid(
        name,
        error.message.replace(/\.$/, ''),
        'Make a pair with "chatops keygen"; the agent prints its own public key at its start.',
      );
    throw error;
  }
}

function readAgents(agents: string, keys: string, required: boolean): Map<string, AgentAddress> {
  const urls = byHost('agent', agents);
  const pinned = byHost('agent-key', keys);
  const found = new Map<string, AgentAddress>();
  for (const [host, url] of urls) {
    if (!/^wss?:\/\/[^/?#@\s]+\/?$/.test(url) || !URL.canParse(url)) {
      throw refusals.inputInvalid(
        'agent',
        `"${url.slice(0, 80)}" is not an agent's address`,
        'Write ws://name:8000 or wss://name:8000, or lines of host=url.',
      );
    }
    const text = pinned.get(host) ?? (pinned.size === 1 && urls.size === 1 ? [...pinned.values()][0] : undefined);
    if (text === undefined) {
      throw refusals.inputInvalid(
        'agent-key',
        host ? `it has no line for the host "${host}"` : 'it is empty',
        'Write the public key that the agent prints at its start.',
      );
    }
    found.set(host, { url: url.replace(/\/$/, ''), key: keyed('agent-key', () => readPublicKey(text)) });
  }
  if (found.size === 0 && required)
    throw refusals.inputInvalid(
      'agent',
      'it is empty',
      'Write ws://name:8000, the address of the agent on your tailnet.',
    );
  return found;
}

/** One value, or lines of `host=value`. A key's own "=" stands at its end, an address has none before "://". */
function byHost(name: string, text: string): Map<string, string> {
  const found = new Map<string, string>();
  if (text.startsWith('-----BEGIN')) return found.set('', text);
  for (const line of lines(text)) {
    const [, host, value] = /^([A-Za-z0-9][A-Za-z0-9_.-]*)=(.+)$/.exec(line) ?? ['', '', line];
    if (found.has(host ?? ''))
      throw refusals.inputInvalid(
        name,
        host ? `the host "${host}" stands there twice` : 'it holds several values without a host',
        'Write one value, or one line "host=value" a host.',
      );
    found.set(host ?? '', value ?? '');
  }
  return found;
}

/** `name=value` lines, or a mapping in YAML or JSON. */
function readParams(text: string): Record<string, ParamValue> {
  if (!text) return {};
  const wrong = (why: string) =>
    refusals.inputInvalid(
      'params',
      why,
      'Write lines of name=value, or a mapping of names to texts, numbers and booleans.',
    );
  const written = lines(text);
  if (written.every(line => /^[a-z][a-z0-9_]*=/.test(line))) {
    return Object.fromEntries(
      written.map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    );
  }
  let value: unknown;
  try {
    value = parseYaml(text, { schema: 'core', maxAliasCount: 0 });
  } catch {
    throw wrong('it is neither lines of name=value nor a mapping');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong('it is not a mapping');
  for (const [name, one] of Object.entries(value)) {
    if (!['string', 'number', 'boolean'].includes(typeof one))
      throw wrong(`"${name}" is not a text, a number or a boolean`);
  }
  return value as Record<string, ParamValue>;
}
