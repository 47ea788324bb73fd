import { z } from 'zod';
import { Duration } from '../../intents/duration.ts';
import { ACTIONS, BackupKind } from '../../intents/intent.ts';
import { KeyError, readPublicKey } from '../../protocol/keys.ts';
import { QUESTION_TOPICS } from '../../protocol/question.ts';
import { parseWindow } from './time-windows.ts';

export const ConfigName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, 'Expected letters, digits, "_", "." and "-"');
export const NamePattern = z
  .string()
  .regex(/^[A-Za-z0-9_.*-]+$/, 'Expected a name, with "*" for any letters')
  .describe('A name; "*" matches any letters: "stack-*".');
const Key = z.string().refine(isPublicKey, { error: 'Expected a public key: "ed25519:<base64>" or PEM' });

/** The subject of an intent, as allow and deny rules name it. */
const scope = {
  actions: z.array(z.enum(ACTIONS)).min(1).describe('The verbs of the rule.'),
  stacks: z
    .array(NamePattern)
    .min(1)
    .describe('The stacks of the rule. "*" also matches intents without a stack, such as a backup of a folder.'),
  services: z.array(NamePattern).min(1).optional().describe('Only intents that name one of these services.'),
  guests: z.array(NamePattern).min(1).optional().describe('Only intents about one of these Proxmox guests: "10*".'),
  kinds: z.array(BackupKind).min(1).optional().describe('Only backups, restores and drills of these kinds.'),
  destinations: z
    .array(z.string().min(1).max(1024))
    .min(1)
    .optional()
    .describe('Only backups to (and restores from) these places and the folders under them; "*" matches any letters.'),
};

export const AllowRule = z.strictObject({
  name: ConfigName.optional().describe(
    'The name in the audit log and in "chatops policy". Default: "allow.1", counted in the entry.',
  ),
  ...scope,
  require_labels: z
    .array(z.string().min(1).max(50))
    .optional()
    .describe('Labels that the merged pull request must have, in addition to the label of the intent.'),
  min_approvals: z
    .int()
    .min(1)
    .max(20)
    .optional()
    .describe('The number of people with write access who must have approved the last commit of the pull request.'),
  require_verify: z.boolean().optional().describe('Rollouts, scales and rollbacks must have "verify".'),
  require_plan_digest: z
    .boolean()
    .optional()
    .describe('The command must name the digest of a plan; the agent refuses to run if the plan has changed.'),
  windows: z
    .array(
      z
        .string()
        .refine(text => parseWindow(text) !== undefined, { error: 'Expected "Mon-Fri 07:00-22:00 Europe/Berlin"' }),
    )
    .min(1)
    .optional()
    .describe('Only at one of these times: days (default: every day), from-to, time zone (default: UTC).'),
  allow_older: z
    .boolean()
    .optional()
    .describe(
      'Commands with the input "allow-older" may deploy a commit that does not descend from the last one. Default: false.',
    ),
  without_approval: z
    .array(z.enum(['workflow_dispatch', 'schedule', 'push', 'pull_request', 'laptop']))
    .optional()
    .describe('Events that need no merged pull request and no label. laptop: the command line with a signing key.'),
});
export type AllowRule = z.infer<typeof AllowRule>;

const DenyRule = z
  .strictObject({
    name: ConfigName.optional(),
    actions: scope.actions.optional(),
    stacks: scope.stacks.optional(),
    services: scope.services,
    guests: scope.guests,
    kinds: scope.kinds,
    destinations: scope.destinations,
  })
  .refine(({ name, ...rest }) => Object.values(rest).some(value => value !== undefined), {
    error: 'Expected at least one of actions, stacks, services, guests, kinds and destinations',
  });
export type DenyRule = z.infer<typeof DenyRule>;

const Ids = z.union([
  z.string().regex(/^\d+$/, 'Expected a number in quotes'),
  z.array(z.string().regex(/^\d+$/)).min(1),
]);
const Texts = z.union([z.string().min(1).max(500), z.array(z.string().min(1).max(500)).min(1)]);

/** Properties of the peer in the tailnet. All that are set must hold. */
export const TailscaleRules = z
  .strictObject({
    tags: z
      .array(z.string().regex(/^tag:[A-Za-z][\w-]*$/, 'Expected "tag:ci"'))
      .min(1)
      .optional()
      .describe('The node has one of these tags.'),
    users: z.array(z.string().min(3).max(254)).min(1).optional().describe('The node belongs to one of these users.'),
    capability: z
      .string()
      .regex(/^[a-z0-9.-]+\/[\w./-]+$/, 'Expected the name of a capability such as "example.com/cap/chatops"')
      .optional()
      .describe('A grant of the tailnet gives the node this capability; its values narrow what the node may do.'),
  })
  .refine(rules => Object.values(rules).some(value => value !== undefined), {
    error: 'Expected tags, users or capability',
  })
  .describe('Identity of the peer in the tailnet. Key, github and tailscale must all hold if they are set.');
export type TailscaleRules = z.infer<typeof TailscaleRules>;

/** Claims that a GitHub token must have. The numbers of repository and owner survive a rename, and GitHub never gives them away again. */
const GithubClaims = z
  .strictObject({
    repository_id: Ids,
    repository_owner_id: Ids,
    ref: Texts.optional().describe('refs/heads/main'),
    event_name: Texts.optional(),
    environment: Texts.optional(),
    workflow_ref: Texts.optional().describe('org/homelab/.github/workflows/deploy.yml@refs/heads/main'),
    job_workflow_ref: Texts.optional().describe('The workflow_ref of a reusable workflow.'),
    actor_id: Ids.optional(),
  })
  .describe('Claims of the GitHub token (OIDC) of the job. Each claim that is set must have one of these values.');
export type GithubClaims = z.infer<typeof GithubClaims>;

export const TrustEntry = z.strictObject({
  name: ConfigName.describe('The name in the log, the audit log and the metrics.'),
  key: z
    .union([Key, z.array(Key).min(1).max(10)])
    .optional()
    .describe('The public signing key, or several during a key change. With "github" as well, both must hold.'),
  github: GithubClaims.optional(),
  tailscale: TailscaleRules.optional(),
  local: z
    .enum(['schedule', 'webhook'])
    .optional()
    .describe(
      'Instead of all of these: the entry is for the schedules (or the webhooks) of this host. They need no label and no approval.',
    ),
  repository: z
    .string()
    .regex(/^[\w.-]+\/[\w.-]+$/, 'Expected owner/name')
    .optional()
    .describe('The repository whose workflows may use the key. Only an entry with "local" has no repository.'),
  repository_id: z.string().regex(/^\d+$/).optional().describe('Its number at GitHub, which survives a rename.'),
  confirm_with_github: z
    .boolean()
    .optional()
    .describe('The agent asks GitHub to confirm each command, with the token of github.token_file.'),
  may_ask: z
    .array(z.enum(QUESTION_TOPICS))
    .min(1)
    .optional()
    .describe(
      'Topics about this host on which the sender may ask from elsewhere ("chatops audit --agent …"). Default: none.',
    ),
  rate: z
    .strictObject({ runs: z.int().min(1).max(100_000), per: Duration })
    .optional()
    .describe('The most runs that the entry may start in a time.'),
  allow: z
    .array(AllowRule)
    .min(1)
    .describe('Rules for commands under this entry. The agent refuses everything that no rule allows.'),
  deny: z
    .array(DenyRule)
    .optional()
    .describe('Rules for commands that the agent refuses even if a rule under allow permits them.'),
});
export type TrustEntry = z.infer<typeof TrustEntry>;

function isPublicKey(text: string): boolean {
  try {
    readPublicKey(text);
    return true;
  } catch (error) {
    if (error instanceof KeyError) return false;
    throw error;
  }
}

/** Returns true if the name matches: `*` matches any letters (also none), everything else matches itself. */
export function matchesPattern(pattern: string, name: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  if (rest.length === 0) return first === name;
  if (!name.startsWith(first)) return false;
  const last = rest.pop() ?? '';
  let position = first.length;
  for (const part of rest) {
    const found = name.indexOf(part, position);
    if (found < 0) return false;
    position = found + part.length;
  }
  return name.endsWith(last) && name.length - last.length >= position;
}
