import { parse as parseYaml } from 'yaml';
import type { AgentAddress } from '../client/deliver.ts';
import { parseDuration } from '../intents/duration.ts';
import type { ParamValue } from '../intents/render.ts';
import { KeyError, readPublicKey, readSecretKey, type SecretKey } from '../protocol/keys.ts';
import { actionRefusals } from './refusals.ts';

const MODES = ['run', 'plan', 'dry-run', 'validate'] as const;
export type Mode = (typeof MODES)[number];

/** The inputs of every mode. */
export interface CommonInputs {
  intent: string[];
  intentsDir: string;
  params: Record<string, ParamValue>;
  githubToken: string;
}

/** The inputs of the modes that talk to an agent. */
export interface Inputs extends CommonInputs {
  mode: Exclude<Mode, 'validate'>;
  /** The agents by host name. The only agent of a workflow that names no hosts has the empty name. */
  agents: Map<string, AgentAddress>;
  /** The path of a file in the repository that names more agents. */
  hostsFile: string | undefined;
  /** Undefined if GitHub's token alone authenticates the commands. */
  signingKey: SecretKey | undefined;
  /** True if the action asks GitHub for a token for each command. */
  oidc: boolean;
  /** In milliseconds. */
  connectTimeout: number;
  /** In milliseconds. */
  timeout: number;
  pullRequest: number | undefined;
  /** True to deploy a commit that does not descend from the last deployment, if the host's policy allows it. */
  allowOlder: boolean;
  /** The digests of a plan that the user has approved: one for each command, in order. */
  planDigests: string[];
}

type Env = Record<string, string | undefined>;

/** Reads the inputs from the variables `INPUT_…` of the runner. Throws `Refused` `input-invalid`, whose message has no secret. */
export function readInputs(env: Env): Inputs | (CommonInputs & { mode: 'validate' }) {
  const mode = oneOf(env, 'mode', MODES, 'run');
  const intent = lines(read(env, 'intent'));
  if (intent.length === 0)
    throw actionRefusals.inputInvalid(
      'intent',
      'it is empty',
      'Write one intent a line: a name under intents-dir, a path or a glob.',
    );
  const common: CommonInputs = {
    intent,
    intentsDir: read(env, 'intents-dir') || 'chatops/intents',
    params: readParams(read(env, 'params')),
    githubToken: read(env, 'github-token'),
  };
  if (mode === 'validate') return { mode, ...common };
  const oidc = readOidc(env);
  const signingKey = readSigningKey(env, oidc);
  const pullRequest = read(env, 'pull-request');
  if (pullRequest && !/^[1-9]\d{0,9}$/.test(pullRequest)) {
    throw actionRefusals.inputInvalid(
      'pull-request',
      'it is not a number',
      'Write the number of a merged pull request.',
    );
  }
  const planDigests = lines(read(env, 'plan-digest'));
  if (planDigests.some(digest => !/^[0-9a-f]{64}$/.test(digest)))
    throw actionRefusals.inputInvalid(
      'plan-digest',
      'it is not a digest',
      'Pass the output plan-digest of the plan unchanged.',
    );
  const hostsFile = read(env, 'hosts-file');
  return {
    mode,
    ...common,
    agents: readAgents(read(env, 'agent'), read(env, 'agent-key'), hostsFile === ''),
    hostsFile: hostsFile || undefined,
    signingKey,
    oidc,
    connectTimeout: duration(env, 'connect-timeout', '30s'),
    timeout: duration(env, 'timeout', '30m'),
    pullRequest: pullRequest ? Number(pullRequest) : undefined,
    allowOlder: oneOf(env, 'allow-older', ['true', 'false'], 'false') === 'true',
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
    throw actionRefusals.inputInvalid(
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
      throw actionRefusals.inputInvalid(name, 'it is not a duration', 'Write a number and a unit: 30s, 10m, 1h.');
    throw error;
  }
}

/** Reads the input "oidc". `auto` asks for a token if the job has the permission for one. */
export function readOidc(env: Env): boolean {
  const wanted = oneOf(env, 'oidc', ['auto', 'true', 'false'], 'auto');
  const isAvailable = Boolean(env.ACTIONS_ID_TOKEN_REQUEST_URL && env.ACTIONS_ID_TOKEN_REQUEST_TOKEN);
  if (wanted === 'true' && !isAvailable)
    throw actionRefusals.inputInvalid(
      'oidc',
      'the job has no permission for a token',
      'Give the job "permissions: id-token: write".',
    );
  return wanted !== 'false' && isAvailable;
}

/** Returns undefined if GitHub's token alone authenticates the commands. */
function readSigningKey(env: Env, oidc: boolean): SecretKey | undefined {
  const text = read(env, 'signing-key');
  if (!text && oidc) return undefined;
  if (!text)
    throw actionRefusals.inputInvalid(
      'signing-key',
      'it is empty',
      'Pass a secret with the output of "chatops keygen", or give the job "permissions: id-token: write" if the agent accepts GitHub’s tokens. Workflows of forks get empty secrets.',
    );
  const key = parseKey('signing-key', () => readSecretKey(text));
  const wanted = read(env, 'key-id');
  if (wanted && wanted !== key.public.id) {
    throw actionRefusals.inputInvalid(
      'key-id',
      `the id of the signing key is ${key.public.id}`,
      'Leave key-id out, or pass the key that it names.',
    );
  }
  return key;
}

function parseKey<T>(name: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof KeyError)
      throw actionRefusals.inputInvalid(
        name,
        error.message.replace(/\.$/, ''),
        'Create a key pair with "chatops keygen". The agent prints its own public key when it starts.',
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
      throw actionRefusals.inputInvalid(
        'agent',
        `"${url.slice(0, 80)}" is not the address of an agent`,
        'Write ws://name:8000 or wss://name:8000, or lines of host=url.',
      );
    }
    const text = pinned.get(host) ?? (pinned.size === 1 && urls.size === 1 ? [...pinned.values()][0] : undefined);
    if (text === undefined) {
      throw actionRefusals.inputInvalid(
        'agent-key',
        host ? `it has no line for the host "${host}"` : 'it is empty',
        'Write the public key that the agent prints when it starts.',
      );
    }
    found.set(host, { url: url.replace(/\/$/, ''), key: parseKey('agent-key', () => readPublicKey(text)) });
  }
  if (found.size === 0 && required)
    throw actionRefusals.inputInvalid(
      'agent',
      'it is empty',
      'Write the address of the agent on your tailnet: ws://name:8000.',
    );
  return found;
}

/** Reads one value, or lines of `host=value`. A key has "=" only at its end, and an address has none before "://". */
function byHost(name: string, text: string): Map<string, string> {
  const found = new Map<string, string>();
  if (text.startsWith('-----BEGIN')) return found.set('', text);
  for (const line of lines(text)) {
    const [, host, value] = /^([A-Za-z0-9][A-Za-z0-9_.-]*)=(.+)$/.exec(line) ?? ['', '', line];
    if (found.has(host ?? ''))
      throw actionRefusals.inputInvalid(
        name,
        host ? `it has two lines for the host "${host}"` : 'it has several values without a host',
        'Write one value, or one line "host=value" for each host.',
      );
    found.set(host ?? '', value ?? '');
  }
  return found;
}

/** Reads lines of `name=value`, or a mapping in YAML or JSON. */
function readParams(text: string): Record<string, ParamValue> {
  if (!text) return {};
  const invalid = (why: string) =>
    actionRefusals.inputInvalid(
      'params',
      why,
      'Write lines of name=value, or a mapping of names to strings, numbers and booleans.',
    );
  const rows = lines(text);
  if (rows.every(line => /^[a-z][a-z0-9_]*=/.test(line))) {
    return Object.fromEntries(rows.map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
  }
  let value: unknown;
  try {
    value = parseYaml(text, { schema: 'core', maxAliasCount: 0 });
  } catch {
    throw invalid('it is neither lines of name=value nor a mapping');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid('it is not a mapping');
  for (const [name, one] of Object.entries(value)) {
    if (!['string', 'number', 'boolean'].includes(typeof one))
      throw invalid(`"${name}" is not a string, a number or a boolean`);
  }
  return value as Record<string, ParamValue>;
}
