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
  .describe('A name; "*" stands for any letters: "stack-*".');
const Key = z.string().refine(isPublicKey, { error: 'Expected a public key: "ed25519:<base64>" or PEM' });

/** What an intent is about, as allow and deny rules name it. */
const scope = {
  actions: z.array(z.enum(ACTIONS)).min(1).describe('Which verbs.'),
  stacks: z
    .array(NamePattern)
    .min(1)
    .describe('On which stacks. "*" also takes in what belongs to no stack, such as a backup of a folder.'),
  services: z.array(NamePattern).min(1).optional().describe('Only intents that name one of these services.'),
  guests: z.array(NamePattern).min(1).optional().describe('Only intents about one of these Proxmox guests: "10*".'),
  kinds: z.array(BackupKind).min(1).optional().describe('Only backups, restores and drills of these kinds.'),
  destinations: z
    .array(z.string().min(1).max(1024))
    .min(1)
    .optional()
    .describe('Only backups to (and restores from) these places and what is below them; "*" stands for any letters.'),
};

export const AllowRule = z.strictObject({
  name: ConfigName.optional().describe(
    'For the audit and for "chatops policy". Default: "allow.1", counted in the entry.',
  ),
  ...scope,
  require_labels: z
    .array(z.string().min(1).max(50))
    .optional()
    .describe('Labels beside the intent’s own that the merged pull request must bear.'),
  min_approvals: z
    .int()
    .min(1)
    .max(20)
    .optional()
    .describe('So many people with write access must have approved the last commit of the pull request.'),
  require_verify: z
    .boolean()
    .optional()
    .describe('Rollouts, scales and rollbacks must say how they prove themselves: "verify".'),
  require_plan_digest: z
    .boolean()
    .optional()
    .describe('The command must name the digest of a plan, and what would be done must still be that plan.'),
  windows: z
    .array(
      z
        .string()
        .refine(text => parseWindow(text) !== undefined, { error: 'Expected "Mon-Fri 07:00-22:00 Europe/Berlin"' }),
    )
    .min(1)
    .optional()
    .describe('Only at one of these times: days (default: each), from-to, time zone (default: UTC).'),
  without_approval: z
    .array(z.enum(['workflow_dispatch', 'schedule', 'push', 'pull_request', 'laptop']))
    .optional()
    .describe('Events that need no merged pull request and no label. laptop: the command line, with a signing key.'),
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

/** What the tailnet must say of the peer: each of what is named. */
export const TailscaleRules = z
  .strictObject({
    tags: z
      .array(z.string().regex(/^tag:[A-Za-z][\w-]*$/, 'Expected "tag:ci"'))
      .min(1)
      .optional()
      .describe('The node bears one of these tags.'),
    users: z.array(z.string().min(3).max(254)).min(1).optional().describe('The node belongs to one of these users.'),
    capability: z
      .string()
      .regex(/^[a-z0-9.-]+\/[\w./-]+$/, 'Expected a capability’s name such as "example.com/cap/chatops"')
      .optional()
      .describe('A grant of the tailnet gives the node this capability; its values narrow what may be done.'),
  })
  .refine(rules => Object.values(rules).some(value => value !== undefined), {
    error: 'Expected tags, users or capability',
  })
  .describe('Who the peer must be by the tailnet. Beside key and github, all must hold.');
export type TailscaleRules = z.infer<typeof TailscaleRules>;

/** What a GitHub token must say. The repository's and its owner's numbers outlive renames, and nobody else gets them. */
const GithubClaims = z
  .strictObject({
    repository_id: Ids,
    repository_owner_id: Ids,
    ref: Texts.optional().describe('refs/heads/main'),
    event_name: Texts.optional(),
    environment: Texts.optional(),
    workflow_ref: Texts.optional().describe('org/homelab/.github/workflows/deploy.yml@refs/heads/main'),
    job_workflow_ref: Texts.optional().describe('Of a reusable workflow.'),
    actor_id: Ids.optional(),
  })
  .describe('What the GitHub token (OIDC) of the job must say. Each of the named claims must be one of its values.');
export type GithubClaims = z.infer<typeof GithubClaims>;

export const TrustEntry = z.strictObject({
  name: ConfigName.describe('For the log, the audit and the metrics.'),
  key: z
    .union([Key, z.array(Key).min(1).max(10)])
    .optional()
    .describe('The public signing key, or several while keys are being changed. With "github" too, both must hold.'),
  github: GithubClaims.optional(),
  tailscale: TailscaleRules.optional(),
  local: z
    .enum(['schedule', 'webhook'])
    .optional()
    .describe(
      'In place of all of these: what the schedules (or the webhooks) of this host may do. Labels and approvals are not asked for.',
    ),
  repository: z
    .string()
    .regex(/^[\w.-]+\/[\w.-]+$/, 'Expected owner/name')
    .optional()
    .describe('The repository whose workflows may use the key. Only an entry with "local" has none.'),
  repository_id: z.string().regex(/^\d+$/).optional().describe('Its number at GitHub, which outlives a rename.'),
  confirm_with_github: z
    .boolean()
    .optional()
    .describe('Ask GitHub, with the token of github.token_file, whether what the command says of itself is so.'),
  may_ask: z
    .array(z.enum(QUESTION_TOPICS))
    .min(1)
    .optional()
    .describe('What its owner may ask about this host from elsewhere ("chatops audit --agent …"). Default: nothing.'),
  rate: z
    .strictObject({ runs: z.int().min(1).max(100_000), per: Duration })
    .optional()
    .describe('So many runs in a time, and no more.'),
  allow: z.array(AllowRule).min(1).describe('What commands under this entry may do. What no rule allows is refused.'),
  deny: z.array(DenyRule).optional().describe('What they may not do, whatever allow says.'),
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

/** `*` stands for any letters, also none; everything else for itself. */
export function matchesPattern(pattern: string, name: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  if (rest.length === 0) return first === name;
  if (!name.startsWith(first)) return false;
  const last = rest.pop() ?? '';
  let at = first.length;
  for (const part of rest) {
    const found = name.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return name.endsWith(last) && name.length - last.length >= at;
}
