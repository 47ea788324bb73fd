import { z } from 'zod';
import { commonFields } from '../intents/fields.ts';
import { ACTIONS, Intent } from '../intents/intent.ts';
import { OUTCOMES } from './event.ts';
import { Question } from './question.ts';
import { RunId } from './run-id.ts';

const Sha = z.string().regex(/^[0-9a-f]{40}$|^[0-9a-f]{64}$/);
const Text = z.string().max(1024);

/** The origin of a command: the workflow run that created it. */
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

/**
 * A label of the pull request at its merge. `by` is empty if the account is gone, `at` is the time of the timeline.
 * `after_last_push` follows from the order of the timeline and from the server's time of the push. If it is false, `doubt` is
 * the reason, and `unproven` means that GitHub does not show the push: then only a review of the last commit can count.
 */
export const Label = z.strictObject({
  name: Text,
  by: Text,
  permission: z.enum(['admin', 'maintain', 'write', 'triage', 'read', 'none']),
  at: Text,
  after_last_push: z.boolean(),
  doubt: Text.optional(),
  unproven: z.literal(true).optional(),
});
export type Label = z.infer<typeof Label>;

/** An approving review at the merge; `on_head`: it approves the last commit. */
export const Review = z.strictObject({
  by: Text,
  permission: Label.shape.permission,
  on_head: z.boolean(),
});
export type Review = z.infer<typeof Review>;

/** The evidence for one pull request. */
const Evidence = z.strictObject({
  pull_request: z.int().positive(),
  /** Its page. */
  url: Text.optional(),
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

/**
 * The commits of the branch that brought what a document depends on since the commit that the host deployed last. `since` is
 * null for the first deployment: then the content of the commit is the baseline. The agent checks `since`, and that the
 * evidence has each pull request; only an agent that asks GitHub knows if a commit is missing.
 */
const Coverage = z.strictObject({
  name: z.string().max(128),
  stack: z.string().max(256),
  since: Sha.nullable(),
  commits: z.array(z.strictObject({ sha: Sha, pull_request: z.int().positive() })).max(500),
});
export type Coverage = z.infer<typeof Coverage>;

/** One file that is sent with a rollout. `path` is relative to the stack's folder; `content` is base64; `sha256` is of the decoded bytes. */
export const ShippedFile = z.strictObject({
  stack: z.string(),
  path: z.string().min(1).max(1024),
  mode: z.union([z.literal(0o644), z.literal(0o755)]),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  content: z.base64(),
});
export type ShippedFile = z.infer<typeof ShippedFile>;

/** Largest size of all files of one command, decoded. With base64 applied twice (to the file and to the payload), the frame stays below its limit. */
export const MAX_SHIPPED_BYTES = 8 * 1024 * 1024;

/** One intent and its position: `name` is the file's name without folder and extension; `document` counts from 1. */
export const IntentDocument = z.strictObject({
  name: z.string().regex(/^[\w.-]{1,128}$/),
  document: z.int().positive(),
  documents: z.int().positive(),
  /** Its index (from 0) among all documents of a graph that several commands share. */
  place: z.int().nonnegative().optional(),
  intent: Intent,
});
export type IntentDocument = z.infer<typeof IntentDocument>;

/** The result of a document of the same graph that another command carried. */
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
  /** Audience: the name of the receiving agent. */
  agent: z.string(),
  /** The challenge of the agent's hello on this connection. */
  challenge: z.string(),
  /** The sender's clock (ISO 8601). Only logged: freshness comes from the challenge. */
  issued_at: z.string(),
  origin: Origin,
};

const Deployment = z.strictObject({
  type: z.enum(['run', 'plan']),
  ...envelopeFields,
  approval: Approval.nullable(),
  /** One for each document. Absent in commands that no commit belongs to. */
  covers: z.array(Coverage).max(100).optional(),
  /** Deploys a commit that does not descend from the one that was deployed last. The rule of the policy must allow it. */
  allow_older: z.literal(true).optional(),
  /** The path of the hosts file in the repository: every document depends on it. */
  hosts_file: Text.optional(),
  intents: z.array(IntentDocument).min(1).max(100),
  /** Results of the documents of the same graph that other commands carried. */
  given: z.array(FinishedDocument).max(500).optional(),
  /** Undoes the changes of these documents (from 1) of an earlier run of the same intents, in place of running the intents. */
  undo: z.strictObject({ run: RunId, documents: z.array(z.int().positive()).min(1).max(100) }).optional(),
  files: z.array(ShippedFile).max(5000),
  params: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  /** The time that "now" means in the intents (ISO 8601), if they use it. */
  rendered_at: z.iso.datetime().optional(),
  dry_run: z.boolean(),
  /** The digest of the reviewed plan: hex of SHA-256. */
  plan_digest: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional(),
});

const FollowCommand = z.strictObject({
  type: z.literal('follow'),
  ...envelopeFields,
  run: RunId,
  /** Number of the last event that the sender has received; 0 for all events. */
  after: z.int().nonnegative(),
});

const CancelCommand = z.strictObject({ type: z.literal('cancel'), ...envelopeFields, run: RunId });

/** Asks for the runs of the sender's own trust entry, newest first. */
const ListCommand = z.strictObject({
  type: z.literal('runs'),
  ...envelopeFields,
  limit: z.int().min(1).max(500),
  before: RunId.optional(),
});

/** Asks about the host, or about one run of the sender's own trust entry. Does not start a run. */
const AskCommand = z.strictObject({ type: z.literal('ask'), ...envelopeFields, question: Question });

/** The signed content of a command. The agent parses it strictly: an unknown field is refused. */
export const Command = z.discriminatedUnion('type', [
  Deployment,
  FollowCommand,
  CancelCommand,
  ListCommand,
  AskCommand,
]);
export type Command = z.infer<typeof Command>;
/** A command that starts a run (`run` or `plan`). */
export type Deployment = z.infer<typeof Deployment>;
export type FollowCommand = z.infer<typeof FollowCommand>;
export type CancelCommand = z.infer<typeof CancelCommand>;
export type ListCommand = z.infer<typeof ListCommand>;
export type AskCommand = z.infer<typeof AskCommand>;
