import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { generateKey } from '../../../protocol/keys.ts';
import { messageOf } from '../../../protocol/refusal.ts';
import { DEFAULT_PORT } from '../../../protocol/wire.ts';
import { parseConfig } from '../../config/load.ts';
import { parseAddressRanges } from '../../system/address-ranges.ts';
import type { Options } from '../commands.ts';
import { cliRefusals } from '../refusals.ts';

type Profile = Options<'init'>['profile'];

const TIMEOUT_MS = 10_000;

/** The numbers that GitHub gives to a repository and to its owner. */
interface RepositoryIds {
  repository: string;
  owner: string;
}

/**
 * Writes a first agent.yaml and, if the profile has a key, the signing key next to it. Prints the next steps. Existing
 * files are never replaced.
 */
export async function initCommand(_args: [], options: Options<'init'>): Promise<number> {
  const { repository, profile, dir, label, stacks } = options;
  const agent = options.agent ?? (hostname().split('.')[0] || 'whitebox');
  const [file, keyFile] = [join(dir, 'agent.yaml'), join(dir, 'signing.key')];
  for (const path of [file, ...(profile === 'keyless' ? [] : [keyFile])])
    if (existsSync(path)) throw cliRefusals.fileExists(path);
  const { 'repository-id': id, 'owner-id': owner } = options;
  const ids =
    profile === 'offline'
      ? undefined
      : id !== undefined && owner !== undefined
        ? { repository: id, owner }
        : await fetchIds(options['github-api'], repository);
  const key = profile === 'keyless' ? undefined : generateKey();
  const listen = options.listen ?? `${findTailnetAddress() ?? '127.0.0.1'}:${DEFAULT_PORT}`;
  const text = renderYaml({ agent, listen, repository, profile, ids, key: key?.public, label, stacks });
  // Fails before anything is written if the agent would not accept the file.
  parseConfig(text, file);
  mkdirSync(dir, { recursive: true, mode: 0o755 });
  if (key) writeFileSync(keyFile, `${key.secret}\n`, { mode: 0o600, flag: 'wx' });
  writeFileSync(file, text, { mode: 0o640, flag: 'wx' });
  if (options.json) {
    console.log(JSON.stringify({ config: file, signing_key: key ? keyFile : null, key: key?.public ?? null, listen }));
    return 0;
  }
  console.log(
    `written: ${file}${key ? `\nwritten: ${keyFile} (copy it to the repository secret CHATOPS_SIGNING_KEY, then delete the file)` : ''}`,
  );
  console.log(nextSteps(file, profile, listen, agent));
  return 0;
}

function renderYaml(settings: {
  agent: string;
  listen: string;
  repository: string;
  profile: Profile;
  ids: RepositoryIds | undefined;
  key: string | undefined;
  label: string;
  stacks: string;
}): string {
  const { agent, listen, repository, profile, ids, key, label, stacks } = settings;
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
          '    github: # claims that the token of the job must have; names can change hands, these numbers can not',
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
  const warning = listen.startsWith('127.')
    ? '\nThe agent listens on loopback only: no other host can reach it. Start Tailscale, then correct "listen".'
    : '';
  return `${warning}
Next:
  1. Start the agent: chatops agent --config ${file}
     It logs its public key: the input agent-key.
  2. Write the job that deploys:
       permissions:
         contents: read
         pull-requests: read${token}
       steps:
         - uses: org/chatops-action@v1
           with:
             intent: …
             agent: ws://${agent}:${listen.split(':').at(-1)}
             agent-key: ed25519:…${key}
  3. Check the policy: chatops policy explain INTENT.yaml --entry main --config ${file}`;
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
    throw cliRefusals.numbersUnknown(`it answered ${response.status} (it hides private repositories)`, repository);
  const { id, owner } = (await response.json()) as { id?: number; owner?: { id?: number } };
  if (id === undefined || owner?.id === undefined) throw cliRefusals.numbersUnknown('its answer has none', repository);
  return { repository: String(id), owner: String(owner.id) };
}

function findTailnetAddress(): string | undefined {
  const tailnet = parseAddressRanges(['100.64.0.0/10']);
  return Object.values(networkInterfaces())
    .flatMap(found => found ?? [])
    .find(({ address, family }) => family === 'IPv4' && tailnet.check(address))?.address;
}
