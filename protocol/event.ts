import { createHash } from 'node:crypto';
import { z } from 'zod';

/** The outcomes of a run or a document. Types, logs, metrics and docs use the same words. */
export const OUTCOMES = ['succeeded', 'failed', 'rolled-back', 'cancelled', 'interrupted', 'planned'] as const;
export const Outcome = z.enum(OUTCOMES);
export type Outcome = z.infer<typeof Outcome>;

/** The outcomes of a step. `skipped`: the step did not start. */
const STEP_OUTCOMES = ['succeeded', 'failed', 'cancelled', 'skipped'] as const;
export type StepOutcome = (typeof STEP_OUTCOMES)[number];

/** One step of a plan, for people: `text` is one line (argv joined for display only, a file's name, an address). */
export interface PlannedStep {
  name: string;
  text: string;
}

/** The change that a plan makes to one service (or another named subject). `details` are short lines such as `image plex:1 → plex:2`. */
export interface Change {
  subject: string;
  change: 'create' | 'recreate' | 'start' | 'scale' | 'remove' | 'write' | 'none' | 'unknown';
  details: string[];
}

/** The content of an event of a run. `document` is the number in the command, from 1; `step` is the name of the step. */
export type EventBody =
  | { kind: 'waiting'; for: string; what: string }
  | {
      kind: 'planned';
      document: number;
      id?: string;
      title: string;
      summary: string;
      steps: PlannedStep[];
      changes: Change[];
    }
  | { kind: 'step-started'; document: number; step: string; text: string; phase: 'do' | 'undo' | 'cleanup' }
  | { kind: 'output'; document: number; step: string; text: string }
  | {
      kind: 'step-finished';
      document: number;
      step: string;
      outcome: StepOutcome;
      ms: number;
      code?: string;
      message?: string;
      /** Exit code of a process, or the name of the signal that ended it. */
      exit?: number | string;
    }
  | { kind: 'note'; level: 'info' | 'warning' | 'error'; text: string }
  | { kind: 'document-finished'; document: number; outcome: Outcome; code?: string; message?: string };

/** An event with its position in the run: `n` counts from 1 without a gap, `at` is the host's clock (ISO 8601). */
export type Event = { type: 'event'; n: number; at: string } & EventBody;

/** An event as the action reads it: leniently, with an unknown kind shown as text, because action and agent are upgraded separately. */
export const AnyEvent = z.looseObject({
  type: z.literal('event'),
  n: z.int().positive(),
  at: z.string(),
  kind: z.string(),
});
export type AnyEvent = z.infer<typeof AnyEvent>;

/** A frame in the form that is sent and hashed: text, or its UTF-8 bytes. */
export type Frame = string | Buffer;

/**
 * Encodes an event as the frame that is sent, hashed and sent again after a reconnect. The frame is JSON. For output the text
 * follows unescaped after a newline, which JSON does not contain: millions of lines need no escaping, and no conversion to
 * text if the caller has the UTF-8 `bytes`.
 */
export function encodeEvent(event: Event, bytes?: Uint8Array): Frame {
  if (event.kind !== 'output') return JSON.stringify(event);
  const { text, ...head } = event;
  const line = `${JSON.stringify(head)}\n`;
  return bytes ? Buffer.concat([Buffer.from(line), bytes]) : line + text;
}

/** Decodes any frame of an agent. Throws a SyntaxError if the text is not a frame. */
export function decodeFrame(frame: string): unknown {
  const end = frame.indexOf('\n');
  if (end < 0) return JSON.parse(frame);
  return { ...(JSON.parse(frame.slice(0, end)) as object), text: frame.slice(end + 1) };
}

/** Digest before the first event. */
export const EMPTY_DIGEST = '0'.repeat(64);

/** Extends a hash chain over the exact frames: hex of SHA-256(previous digest as hex text, then the frame). Continues after a restart from the stored head. */
export function chainDigest(previous: string, frame: Frame): string {
  return createHash('sha256').update(previous).update(frame).digest('hex');
}
