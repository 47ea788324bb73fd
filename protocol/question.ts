import { z } from 'zod';
import { Intent } from '../intents/intent.ts';
import { Refusal } from './refusal.ts';
import { RunId } from './run-id.ts';

/** The topics that a trust entry may ask about, in addition to its own runs: `may_ask` in agent.yaml. */
export const QUESTION_TOPICS = ['audit', 'doctor', 'notify', 'policy', 'schedules'] as const;

/** A label of a supposed pull request. A name alone: set after the last push, by a user with write permission. */
export const PolicyLabel = z.union([
  z.string().max(200),
  z.strictObject({
    name: z.string().max(200),
    early: z.boolean().optional().describe('true: set before the last push.'),
    permission: z
      .enum(['admin', 'maintain', 'write', 'triage', 'read', 'none'])
      .optional()
      .describe('The permission of the user who set it. Default: write.'),
  }),
]);

/** Containers of the host by name, with the stack of each; an empty text for a container outside of stacks. */
export const PolicyContainers = z.record(z.string().max(128), z.string().max(128));

/** An intent and the circumstances for which the policy decides about it. */
export const PolicyCase = z.strictObject({
  entry: z.string().max(128).describe('The name of an entry under trust.'),
  intent: Intent,
  event: z.string().max(64),
  labels: z.array(PolicyLabel).max(200),
  approvals: z.int().min(0).max(20),
  merged: z.boolean(),
  plan_digest: z.boolean(),
  /** In place of the containers and volumes that the engine of the host reports. */
  containers: PolicyContainers.optional(),
  /** ISO 8601; absent: the agent's current time. */
  at: z.iso.datetime().optional(),
});
export type PolicyCase = z.infer<typeof PolicyCase>;

/** A document whose last deployment from the sender's repository is asked for. */
export const DeployedDocument = z.strictObject({
  name: z.string().max(128),
  stack: z.string().max(256),
  source_dir: z.string().max(1024).optional(),
});
export type DeployedDocument = z.infer<typeof DeployedDocument>;

export const Question = z.discriminatedUnion('about', [
  z.strictObject({ about: z.literal('run'), run: RunId }),
  z.strictObject({ about: z.literal('schedules') }),
  /** All existing rows after number `after`, in several parts. */
  z.strictObject({ about: z.literal('audit'), after: z.int().nonnegative() }),
  z.strictObject({ about: z.literal('doctor') }),
  /** Sends a test notice to the named channel, or to all channels. */
  z.strictObject({ about: z.literal('notify'), channel: z.string().max(128).optional() }),
  z.strictObject({ about: z.literal('deployed'), documents: z.array(DeployedDocument).min(1).max(100) }),
  z.strictObject({ about: z.literal('policy'), supposed: z.array(PolicyCase).min(1).max(500) }),
]);
export type Question = z.infer<typeof Question>;

/** The signed content of a part (from 1) of an answer. `to` is the id of the command that asked; `last` marks the last part. */
export const AnswerPart = z.looseObject({
  agent: z.string(),
  to: z.string(),
  part: z.int().positive(),
  last: z.boolean(),
  answer: z.unknown(),
});
export type AnswerPart = z.infer<typeof AnswerPart>;

const verdictFields = { rule: z.string().optional(), refusal: Refusal.optional() };

/** The schema of each part of an answer. All answers but that of the audit have a single part. Times are ISO 8601. */
export const ANSWERS = {
  run: z.looseObject({
    id: z.string(),
    title: z.string(),
    state: z.string(),
    outcome: z.string().nullable(),
    createdAt: z.string(),
    cancel: z.string().nullable(),
    receipt: z.unknown(),
  }),
  schedules: z.array(
    z.object({
      name: z.string(),
      cron: z.string(),
      timezone: z.string(),
      intent: z.string(),
      next: z.string().nullable(),
      last: z.string(),
      run: z.string().nullable(),
    }),
  ),
  /** `body` is JSON. */
  audit: z.array(z.object({ n: z.int(), at: z.string(), body: z.string(), digest: z.string() })),
  doctor: z.array(
    z.object({
      check: z.string(),
      state: z.enum(['good', 'bad', 'skipped']),
      says: z.string(),
      remedy: z.string().optional(),
    }),
  ),
  /** `problem` is null if the notice was sent. */
  notify: z.array(z.object({ channel: z.string(), problem: z.string().nullable() })),
  /**
   * The commit up to which the content of each document is approved, in their order; null if the host has no deployment to
   * begin from. `isFirst`: the host has not deployed this document yet, so the commit is that of another one.
   */
  deployed: z.array(z.object({ since: z.string().nullable(), at: z.string().nullable(), isFirst: z.boolean() })),
  /** A decision for each of `supposed`, in their order. */
  policy: z.array(z.object({ ...verdictFields, findings: z.array(z.object({ ...verdictFields, rule: z.string() })) })),
} satisfies Record<Question['about'], z.ZodType>;
export type Answer<About extends Question['about']> = z.infer<(typeof ANSWERS)[About]>;
