import { z } from 'zod';
import { commonFields } from '../intents/fields.ts';
import { ACTIONS, Intent } from '../intents/intent.ts';
import { OUTCOMES } from './event.ts';
import { Question } from './question.ts';
import { RunId } from './run-id.ts';

const Sha = z.string().regex(/^[0-9a-f]{40}$|^[0-9a-f]{64}$/);
const Text = z.string().max(1024);

/** Where a command comes from: the workflow run that made it. */
export const Origin = z.strictObject({
  repository: z.string().regex(/^[\w.-]+\/[\w.-]+$/),
  repository_id: z.string().regex(/^\d{1,20}$/),
  ref: Text,
  sha: Sha,
  event: z.string().regex(/^[a-z_]{1,64}$/),
  workflow_ref: Text,
  run_id: Text,
  run_attempt: Text,
  actor: Text,
  url: Text,
});
export type Origin = z.infer<typeof Origin>;

/** A label as it stood at the merge. `at` is the timeline's time; order, not time, decided `after_last_push`. */
export const Label = z.strictObject({
  name: Text,
  by: Text,
  permission: z.enum(['admin', 'maintain', 'write', 'triage', 'read', 'none']),
  at: Text,
  after_last_push: z.boolean(),
});
export type Label = z.infer<typeof Label>;

/** An approving review that stood at the merge; `on_head`: of the last commit. */
export const Review = z.strictObject({
  by: Text,
  permission: Label.shape.permission,
  on_head: z.boolean(),
});
export type Review = z.infer<typeof Review>;

const Evidence = z.strictObject({
  pull_request: z.int().positive(),
  head_sha: Sha,
  merge_sha: Sha,
  labels: z.array(Label).max(200),
  merged_by: Text,
  approvals: z.array(Review).max(100).optional(),
});
export type Evidence = z.infer<typeof Evidence>;

/** The evidence for a command. `with` holds the other pull requests of one push that touch the same intents: each must satisfy the same rules. */
export const Approval = Evidence.extend({ with: z.array(Evidence).max(200).optional() });
export type Approval = z.infer<typeof Approval>;

/** One file that travels with a rollout. `path` is relative to the stack's folder; `content` is base64; `sha256` is of the decoded bytes. */
export const ShippedFile = z.strictObject({
  stack: z.string(),
  path: z.string().min(1).max(1024),
  mode: z.union([z.literal(0o644), z.literal(0o755)]),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  content: z.base64(),
});
export type ShippedFile = z.infer<typeof ShippedFile>;

/** All files of one command, decoded. Base64 twice (in the payload, and the payload itself) keeps this under the frame limit. */
export const MAX_SHIPPED_BYTES = 8 * 1024 * 1024;

/** One intent with where it stood: `name` is the file's name without folder and ending; `document` counts from 1. */
export const IntentDocument = z.strictObject({
  name: z.string().regex(/^[\w.-]{1,128}$/),
  document: z.int().positive(),
  documents: z.int().positive(),
  /** Its place among all documents of a graph of which other commands carry the rest; from 0. */
  place: z.int().nonnegative().optional(),
  intent: Intent,
});
export type IntentDocument = z.infer<typeof IntentDocument>;

/** How a document of the same graph has ended that another command carried. */
export const FinishedDocument = z.strictObject({
  ...IntentDocument.omit({ intent: true, documents: true }).shape,
  place: z.int().nonnegative(),
  outcome: z.enum([...OUTCOMES, 'skipped']),
  intent: z.strictObject({
    action: z.enum(ACTIONS),
    id: commonFields.id,
    host: commonFields.host,
    hosts: commonFields.hosts,
    on_failure: commonFields.on_failure,
  }),
});
export type FinishedDocument = z.infer<typeof FinishedDocument>;

const envelopeFields = {
  id: RunId,
  /** Audience: the name of the agent that is meant. */
  agent: z.string(),
  /** The challenge of the agent's hello on this connection. */
  challenge: z.string(),
  /** The sender's clock (ISO 8601). Told, never judged: freshness comes from the challenge. */
  issued_at: z.string(),
  origin: Origin,
};

const Deployment = z.strictObject({
  type: z.enum(['run', 'plan']),
  ...envelopeFields,
  approval: Approval.nullable(),
  intents: z.array(IntentDocument).min(1).max(100),
  /** Documents of the same graph that have ended elsewhere. */
  given: z.array(FinishedDocument).max(500).optional(),
  /** In place of carrying the intents out, undoes what these documents (from 1) of an earlier run of the same intents changed. */
  undo: z.strictObject({ run: RunId, documents: z.array(z.int().positive()).min(1).max(100) }).optional(),
  files: z.array(ShippedFile).max(5000),
  params: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  /** What "now" meant in the intents (ISO 8601), where they say it. */
  rendered_at: z.iso.datetime().optional(),
  dry_run: z.boolean(),
  /** The digest of the plan that was looked at: hex of SHA-256. */
  plan_digest: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional(),
});

const FollowCommand = z.strictObject({
  type: z.literal('follow'),
  ...envelopeFields,
  run: RunId,
  /** Number of the last event the follower has; 0 for all. */
  after: z.int().nonnegative(),
});

const CancelCommand = z.strictObject({ type: z.literal('cancel'), ...envelopeFields, run: RunId });

/** Asks for the runs of the sender's own entry of trust, the newest first. */
const ListCommand = z.strictObject({
  type: z.literal('runs'),
  ...envelopeFields,
  limit: z.int().min(1).max(500),
  before: RunId.optional(),
});

/** Asks the host about itself, or the agent about one run of the sender's own entry. It begins no run. */
const AskCommand = z.strictObject({ type: z.literal('ask'), ...envelopeFields, question: Question });

/** What a signature covers. The agent reads it strictly: an unknown field is refused. */
export const Command = z.discriminatedUnion('type', [
  Deployment,
  FollowCommand,
  CancelCommand,
  ListCommand,
  AskCommand,
]);
export type Command = z.infer<typeof Command>;
/** A command that makes a run (`run` or `plan`). */
export type Deployment = z.infer<typeof Deployment>;
export type FollowCommand = z.infer<typeof FollowCommand>;
export type CancelCommand = z.infer<typeof CancelCommand>;
export type ListCommand = z.infer<typeof ListCommand>;
export type AskCommand = z.infer<typeof AskCommand>;
