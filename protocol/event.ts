import { createHash } from 'node:crypto';
import { z } from 'zod';

/** How a run, a document or a step ended. The same words in types, logs, metrics and docs. */
export const OUTCOMES = ['succeeded', 'failed', 'rolled-back', 'cancelled', 'interrupted', 'planned'] as const;
export const Outcome = z.enum(OUTCOMES);
export type Outcome = z.infer<typeof Outcome>;

/** How a step ended. `skipped`: its turn never came. */
export const STEP_OUTCOMES = ['succeeded', 'failed', 'cancelled', 'skipped'] as const;
export type StepOutcome = (typeof STEP_OUTCOMES)[number];

/** One step of a plan as a person reads it: `text` is one line (argv joined for the eye only, a file's name, an address). */
export interface PlannedStep {
  name: string;
  text: string;
}

/** What a plan would change for one service (or another named thing). `details` are short lines such as `image plex:1 → plex:2`. */
export interface Change {
  subject: string;
  change: 'create' | 'recreate' | 'start' | 'scale' | 'remove' | 'write' | 'none' | 'unknown';
  details: string[];
}

/** What can happen in a run. `document` counts from 1 and is the place in the command; `step` is the step's name. */
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

/** A happening with its place in the run: `n` counts from 1 without a gap, `at` is the host's clock (ISO 8601). */
export type Event = { type: 'event'; n: number; at: string } & EventBody;

/** The action reads events gently: an unknown kind is shown as text, because action and agent age apart. */
export const AnyEvent = z.looseObject({
  type: z.literal('event'),
  n: z.int().positive(),
  at: z.string(),
  kind: z.string(),
});
export type AnyEvent = z.infer<typeof AnyEvent>;

/** A frame as it is sent and hashed: text, or its UTF-8 bytes. */
export type Frame = string | Buffer;

/**
 * The one place where an event becomes a frame: what is told, hashed and shown again after a reconnect is this. JSON, and for
 * output its text as it is after a newline (JSON has none): millions of lines need no escaping, and no copy as text where
 * they are at hand as UTF-8 `bytes`.
 */
export function encodeEvent(event: Event, bytes?: Uint8Array): Frame {
  if (event.kind !== 'output') return JSON.stringify(event);
  const { text, ...head } = event;
  const line = `${JSON.stringify(head)}\n`;
  return bytes ? Buffer.concat([Buffer.from(line), bytes]) : line + text;
}

/** The other way round, for any frame of an agent. Throws a SyntaxError where it is none. */
export function decodeFrame(frame: string): unknown {
  const end = frame.indexOf('\n');
  if (end < 0) return JSON.parse(frame);
  return { ...(JSON.parse(frame.slice(0, end)) as object), text: frame.slice(end + 1) };
}

/** Digest of no events. */
export const EMPTY_DIGEST = '0'.repeat(64);

/** A hash chain over the exact frames: hex of SHA-256(previous digest as hex text, then the frame). Can go on after a restart from the stored head. */
export function chainDigest(previous: string, frame: Frame): string {
  return createHash('sha256').update(previous).update(frame).digest('hex');
}
