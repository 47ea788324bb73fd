import { z } from 'zod';
import { ACTIONS } from '../intents/intent.ts';
import { KeyError, readPublicKey } from '../protocol/keys.ts';

export const Name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, 'Expected letters, digits, "_", "." and "-"');
export const Pattern = z
  .string()
  .regex(/^[A-Za-z0-9_.*-]+$/, 'Expected a name, with "*" for any letters')
  .describe('A name; "*" stands for any letters: "stack-*".');
const Key = z.string().refine(isPublicKey, { error: 'Expected a public key: "ed25519:<base64>" or PEM' });

export const AllowRule = z.strictObject({
  actions: z.array(z.enum(ACTIONS)).min(1).describe('Which verbs.'),
  stacks: z.array(Pattern).min(1).describe('On which stacks.'),
  services: z.array(Pattern).min(1).optional().describe('Only intents that name one of these services.'),
  require_labels: z
    .array(z.string().min(1).max(50))
    .optional()
    .describe('Labels beside the intent’s own that the merged pull request must bear.'),
  require_verify: z
    .boolean()
    .optional()
    .describe('Rollouts, scales and rollbacks must say how they prove themselves: "verify".'),
  without_approval: z
    .array(z.enum(['workflow_dispatch', 'schedule', 'push', 'pull_request']))
    .optional()
    .describe('Events that need no merged pull request and no label.'),
});
export type AllowRule = z.infer<typeof AllowRule>;

const Ids = z.union([
  z.string().regex(/^\d+$/, 'Expected a number in quotes'),
  z.array(z.string().regex(/^\d+$/)).min(1),
]);
const Texts = z.union([z.string().min(1).max(500), z.array(z.string().min(1).max(500)).min(1)]);

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
  name: Name.describe('For the log, the audit and the metrics.'),
  key: z
    .union([Key, z.array(Key).min(1).max(10)])
    .optional()
    .describe('The public signing key, or several while keys are being changed. With "github" too, both must hold.'),
  github: GithubClaims.optional(),
  repository: z
    .string()
    .regex(/^[\w.-]+\/[\w.-]+$/, 'Expected owner/name')
    .describe('The repository whose workflows may use the key.'),
  repository_id: z.string().regex(/^\d+$/).optional().describe('Its number at GitHub, which outlives a rename.'),
  allow: z.array(AllowRule).min(1).describe('What commands under this entry may do. What no rule allows is refused.'),
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
export function matches(pattern: string, name: string): boolean {
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
