import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { generateKey } from '../../protocol/keys.ts';
import { messageOf } from '../../protocol/refusal.ts';
import { DEFAULT_PORT } from '../../protocol/wire.ts';
import { parseConfig } from '../config/load.ts';
import { parseAddressRanges } from '../system/address-ranges.ts';
import { cliRefusals } from './refusals.ts';

const USAGE = `usage: chatops init --repository OWNER/NAME [--profile dual | keyless | offline] [--agent NAME] [--listen ADDRESS:PORT]
               [--repository-id N --owner-id N] [--label NAME] [--stacks PATTERN] [--dir FOLDER] [--json]
`;
const PROFILES = ['dual', 'keyless', 'offline'] as const;
type Profile = (typeof PROFILES)[number];
const TIMEOUT_MS = 10_000;

/** Numbers of a repository and its owner at GitHub. */
interface RepositoryIds {
  repository: string;
  owner: string;
}

/**
 * Writes a first agent.yaml, and for a profile with a key the signing key beside it, both for nobody else to read; and says
 * what comes next. Nothing that is there is replaced.
 */
export async function initCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      repository: { type: 'string' },
      profile: { type: 'string', default: 'dual' },
      agent: { type: 'string', default: hostname().split('.')[0] || 'whitebox' },
      listen: { type: 'string' },
      'repository-id': { type: 'string' },
      'owner-id': { type: 'string' },
      label: { type: 'string', default: 'approved' },
      stacks: { type: 'string', default: '*' },
      dir: { type: 'string', default: '/etc/chatops' },
      json: { type: 'boolean', default: false },
      'github-api': { type: 'string', default: 'https://api.github.com' },
    },
  });
  const profile = PROFILES.find(one => one === values.profile);
  if (values.repository === undefined || profile === undefined || positionals.length > 0) {
    throw cliRefusals.wrongCall(USAGE);
  }
  const { repository, dir } = values;
  const [file, keyFile] = [join(dir, 'agent.yaml'), join(dir, 'signing.key')];
  for (const path of [file, ...(profile === 'keyless' ? [] : [keyFile])])
    if (existsSync(path)) throw cliRefusals.fileExists(path);
  const given = values['repository-id'];
  const ids =
    profile === 'offline'
      ? undefined
      : given !== undefined && values['owner-id'] !== undefined
        ? { repository: given, owner: values['owner-id'] }
        : await fetchIds(values['github-api'], repository);
  const key = profile === 'keyless' ? undefined : generateKey();
  const listen = values.listen ?? `${findTailnetAddress() ?? '127.0.0.1'}:${DEFAULT_PORT}`;
  const text = renderYaml({ ...values, repository, profile, listen, ids, key: key?.public });
  // What is written is read before.
  parseConfig(text, file);
  mkdirSync(dir, { recursive: true, mode: 0o755 });
  if (key) writeFileSync(keyFile, `${key.secret}\n`, { mode: 0o600, flag: 'wx' });
  writeFileSync(file, text, { mode: 0o640, flag: 'wx' });
  if (values.json) {
    console.log(JSON.stringify({ config: file, signing_key: key ? keyFile : null, key: key?.public ?? null, listen }));
    return 0;
  }
  console.log(
    `written: ${file}${key ? `\nwritten: ${keyFile} (put it into the repository’s secret CHATOPS_SIGNING_KEY, then delete it)` : ''}`,
  );
  console.log(nextSteps(file, profile, listen, values.agent));
  return 0;
}

function renderYaml(of: {
  agent: string;
  listen: string;
  repository: string;
  profile: Profile;
  ids: RepositoryIds | undefined;
  key: string | undefined;
  label: string;
  stacks: string;
}): string {
  const { agent, listen, repository, profile, ids, key, label, stacks } = of;
  const lines = [
    `# Profile: ${profile}. Every key: https://github.com/org/chatops-action/blob/main/docs/agent.md`,
    `agent: ${JSON.stringify(agent)}`,
    `listen: ${JSON.stringify(listen)}`,
    'stacks:',
    '  root: /opt/stacks',
    'trust:',
    '  - name: main',
    `    repository: ${JSON.stringify(repository)}`,
    ...(key === undefined ? [] : [`    key: ${JSON.stringify(key)}`]),
    ...(ids === undefined
      ? []
      : [
          '    github: # what the job’s token must say; names can be given away, these numbers not',
          `      repository_id: ${JSON.stringify(ids.repository)}`,
          `      repository_owner_id: ${JSON.stringify(ids.owner)}`,
          '      ref: refs/heads/main',
          '      event_name: [push, workflow_dispatch, schedule]',
        ]),
    '    allow:',
    '      - name: deploy',
    '        actions: [rollout, scale, rollback]',
    `        stacks: [${JSON.stringify(stacks)}]`,
    `        require_labels: [${JSON.stringify(label)}]`,
  ];
  return `${lines.join('\n')}\n`;
}

function nextSteps(file: string, profile: Profile, listen: string, agent: string): string {
  const token = profile === 'offline' ? '' : '\n         id-token: write';
  const key = profile === 'keyless' ? '' : `\n             signing-key: \${{ secrets.CHATOPS_SIGNING_KEY }}`;
  const only = listen.startsWith('127.')
    ? '\nNo address of a tailnet was found: the agent listens on this host only. Correct "listen" once Tailscale is up.'
    : '';
  return `${only}
Next:
  1. Start the agent: chatops agent --config ${file}
     It prints its public key, the input agent-key.
  2. The deploying job:
       permissions:
         contents: read
         pull-requests: read${token}
       steps:
         - uses: org/chatops-action@v1
           with:
             intent: …
             agent: ws://${agent}:${listen.split(':').at(-1)}
             agent-key: ed25519:…${key}
  3. Try the policy: chatops policy explain INTENT.yaml --entry main --config ${file}`;
}

/** Throws `Refused`. */
async function fetchIds(api: string, repository: string): Promise<RepositoryIds> {
  let response: Response;
  try {
    response = await fetch(`${api}/repos/${repository}`, {
      headers: { Accept: 'application/vnd.github+json', 'User-Agent': 'chatops' },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (error) {
    throw cliRefusals.numbersUnknown(messageOf(error), repository);
  }
  if (!response.ok)
    throw cliRefusals.numbersUnknown(`it answered ${response.status}, and shows private ones to nobody`, repository);
  const { id, owner } = (await response.json()) as { id?: number; owner?: { id?: number } };
  if (id === undefined || owner?.id === undefined)
    throw cliRefusals.numbersUnknown('its answer names none', repository);
  return { repository: String(id), owner: String(owner.id) };
}

function findTailnetAddress(): string | undefined {
  const tailnet = parseAddressRanges(['100.64.0.0/10']);
  return Object.values(networkInterfaces())
    .flatMap(found => found ?? [])
    .find(({ address, family }) => family === 'IPv4' && tailnet.check(address))?.address;
}
