import type { EventBody, Outcome, StepOutcome } from '../../protocol/event.ts';
import type { ImageChange, ReceiptDocument, ReceiptStep } from '../../protocol/receipt.ts';
import type { RestorePoint, Step } from './plan.ts';

/** Where a piece of output stands: the same bytes always make the same frame. */
export interface LogSlice {
  file: string;
  offset: number;
  length: number;
}

/** A piece of output: text, or UTF-8 bytes with the place where they are stored already. */
export type OutputChunk = { text: string } | { bytes: Buffer; source: LogSlice };
export type Phase = 'do' | 'undo' | 'cleanup';
/** What the store keeps of a step beside its events, so that the next agent can go on from there. */
export type StepMark =
  | { document: number; index: number; step: string; phase: Phase }
  | { document: number; index: number; ms: number; ending: StepResult };
/** A happening, where output may be a stored piece, and what is stored with it. */
export type ProgressEvent = (
  | Exclude<EventBody, { kind: 'output' }>
  | ({ kind: 'output'; document: number; step: string } & OutputChunk)
) & { mark?: StepMark };

/** A container as a `measure` step saw it. `image` is the image's id (`sha256:…`). */
export interface ContainerImage {
  service: string;
  container: string;
  reference: string;
  image: string;
}

/** A backup that has been read back. `archive` is its absolute path. */
export interface BackupFacts {
  kind: string;
  name: string;
  archive: string;
  bytes: number;
  files: number;
  sha256: string;
  verified: boolean;
}

/** A backup that has been restored for a trial. */
export interface DrillFacts {
  kind: string;
  name: string;
  /** The name of its file or folder. */
  backup: string;
  at: string;
  /** From the plan to the end of the last check. */
  seconds: number;
}

/** How one step ended. A step that did not do it is data, not an exception. */
export interface StepResult {
  outcome: Exclude<StepOutcome, 'skipped'>;
  code?: string;
  message?: string;
  remedy?: string;
  exit?: number | string;
  /** It was stopped, or ended by somebody else, before it was through. */
  cut?: true;
  seen?: ContainerImage[];
  /** What a backup came to, for the receipt. */
  backup?: BackupFacts;
  drill?: DrillFacts;
  files?: { written: string[]; removed: string[] };
}

/** A step of an earlier agent's: its end, or that it had only begun (with how many bytes of its output had been told). */
export type StepProgress = { ending: StepResult; ms: number } | { offset: number };
/** What carries out one step of a kind. Yields output; throws only for a fault of ours. `resumed`: an earlier agent began it. */
export interface StepRunner {
  run(
    step: Step,
    place: { document: number; index: number },
    signal: AbortSignal,
    resumed?: { offset: number },
  ): AsyncGenerator<OutputChunk, StepResult>;
}

/** How a plan ended. */
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

/** What became of one document so far. */
export type DocumentResult = Omit<Partial<PlanResult>, 'outcome'> & {
  outcome: ReceiptDocument['outcome'];
  restorePoints?: RestorePoint[];
};
