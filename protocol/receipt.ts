import { z } from 'zod';
import { Outcome } from './event.ts';

/** The image of one service before and after: a digest (`sha256:…`, the image id) with the requested reference; null if it had no image. */
export const ImageChange = z.looseObject({
  service: z.string(),
  reference: z.string(),
  before: z.string().nullable(),
  after: z.string().nullable(),
});
export type ImageChange = z.infer<typeof ImageChange>;

export const ReceiptStep = z.looseObject({
  name: z.string(),
  outcome: z.string(),
  ms: z.number(),
});
export type ReceiptStep = z.infer<typeof ReceiptStep>;

export const ReceiptDocument = z.looseObject({
  document: z.number(),
  /** Its id in its file. */
  id: z.string().optional(),
  name: z.string(),
  action: z.string(),
  stack: z.string(),
  service: z.string().optional(),
  /** The allow rule of the host's policy that admitted it. */
  rule: z.string().optional(),
  outcome: z.union([Outcome, z.literal('skipped')]),
  /** The commit of a first deployment: its content counts as approved, because there was nothing to compare it with. */
  baseline: z.string().optional(),
  steps: z.array(ReceiptStep),
  images: z.array(ImageChange),
  files: z.looseObject({ written: z.array(z.string()), removed: z.array(z.string()) }),
});
export type ReceiptDocument = z.infer<typeof ReceiptDocument>;

/** The result of a run, signed by the agent. The action reads it leniently (unknown fields are accepted). */
export const Receipt = z.looseObject({
  run: z.string(),
  agent: z.string(),
  outcome: Outcome,
  /** Stable code if the outcome is neither `succeeded` nor `planned`. */
  reason: z.string().optional(),
  message: z.string().optional(),
  remedy: z.string().optional(),
  failed_step: z.looseObject({ document: z.number(), step: z.string() }).optional(),
  changed: z.boolean(),
  documents: z.array(ReceiptDocument),
  /** The number of events of the run, and the head of their chain (see `chainDigest`). */
  events: z.int().nonnegative(),
  events_digest: z.string(),
  /** The head of the agent's audit log at the signature. It exposes a chain that the host has created again. */
  audit: z.looseObject({ rows: z.int().nonnegative(), digest: z.string() }).optional(),
  /** Only of a plan: the digest to which a deployment can be bound. */
  plan_digest: z.string().optional(),
  /** The host's clock, ISO 8601. */
  started_at: z.string(),
  finished_at: z.string(),
});
export type Receipt = z.infer<typeof Receipt>;
