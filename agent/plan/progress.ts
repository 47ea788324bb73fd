import type { EventBody, Outcome, StepOutcome } from '../../protocol/event.ts';
import type { ImageChange, ReceiptDocument, ReceiptStep } from '../../protocol/receipt.ts';
import type { RestorePoint, Step } from './plan.ts';

/** Position of output in a step's log: the same bytes always make the same frame. */
export interface LogSlice {
  file: string;
  offset: number;
  length: number;
}

/** A chunk of output: text, or UTF-8 bytes with their position in a step's log. */
export type OutputChunk = { text: string } | { bytes: Buffer; source: LogSlice };
export type Phase = 'do' | 'undo' | 'cleanup';
/** The stored progress of a step, in addition to its events: the next agent resumes from it. */
export type StepMark =
  | { document: number; index: number; step: string; phase: Phase }
  | { document: number; index: number; ms: number; ending: StepResult };
/** An event of a run before it is stored and numbered, and the mark that is stored with it. */
export type ProgressEvent = (
  | Exclude<EventBody, { kind: 'output' }>
  | ({ kind: 'output'; document: number; step: string } & OutputChunk)
) & { mark?: StepMark };

/** A container at the time of a `measure` step. `image` is the image's id (`sha256:…`). */
export interface ContainerImage {
  service: string;
  container: string;
  reference: string;
  image: string;
}

/** A backup that was read back. `archive` is its absolute path. */
export interface BackupFacts {
  kind: string;
  name: string;
  archive: string;
  bytes: number;
  files: number;
  sha256: string;
  verified: boolean;
}

/** A backup that was restored as a test. */
export interface DrillFacts {
  kind: string;
  name: string;
  /** Name of the backup's file or folder. */
  backup: string;
  at: string;
  /** Time from the plan to the end of the last check. */
  seconds: number;
}

/** Result of a step. A failed step is data, not an exception. */
export interface StepResult {
  outcome: Exclude<StepOutcome, 'skipped'>;
  code?: string;
  message?: string;
  remedy?: string;
  exit?: number | string;
  /** The step was interrupted: stopped by the agent, or killed from outside. */
  cut?: true;
  seen?: ContainerImage[];
  /** Facts of a backup, for the receipt. */
  backup?: BackupFacts;
  drill?: DrillFacts;
  files?: { written: string[]; removed: string[] };
}

/** Progress of a step of an earlier agent: its result, or the number of bytes of its output that were reported. */
export type StepProgress = { ending: StepResult; ms: number } | { offset: number };
/** Runs a step. Yields output; throws only for a bug of the agent. `resumed`: an earlier agent started it. */
export interface StepRunner {
  run(
    step: Step,
    place: { document: number; index: number },
    signal: AbortSignal,
    resumed?: { offset: number },
  ): AsyncGenerator<OutputChunk, StepResult>;
}

/** Result of a plan. */
export interface PlanResult {
  outcome: Extract<Outcome, 'succeeded' | 'failed' | 'rolled-back' | 'cancelled'>;
  failedStep?: string;
  code?: string;
  message?: string;
  remedy?: string;
  steps: ReceiptStep[];
  images: ImageChange[];
  files: { written: string[]; removed: string[] };
  backup?: BackupFacts;
  drill?: DrillFacts;
  changed: boolean;
}

/** Result of a document so far. */
export type DocumentResult = Omit<Partial<PlanResult>, 'outcome'> & {
  outcome: ReceiptDocument['outcome'];
  restorePoints?: RestorePoint[];
};
