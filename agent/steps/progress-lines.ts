import type { LogSlice } from '../plan/progress.ts';

/** UTF-8, and where it stands. */
interface OutputSlice {
  bytes: Buffer;
  source: LogSlice;
}

const CR = 0x0d;
const LF = 0x0a;

/** One redrawn line in so many milliseconds is told. */
const EVERY_MS = 1_000;

/**
 * Thins what a program draws over and over on one line, ending each with a carriage return (rsync does for each file): of
 * these one a second is told, and the last. Lines that end with a newline are all told.
 */
export class ProgressLineFilter {
  readonly #now: () => number;
  #told = Number.NEGATIVE_INFINITY;
  /** The newest redrawn line that has not been told. */
  #pending: OutputSlice | undefined;
  /** What has not come to its end yet. */
  #open: OutputSlice | undefined;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  take(piece: OutputSlice): OutputSlice[] {
    const told: OutputSlice[] = [];
    const whole = this.#open ? joinOutput(this.#open, piece) : piece;
    this.#open = undefined;
    const { bytes } = whole;
    let from = 0;
    // Neighbouring lines stay one piece.
    let lines = -1;
    const flush = (to: number) => {
      if (lines >= 0) told.push(sliceOutput(whole, lines, to));
      lines = -1;
    };
    for (let at = 0; at < bytes.length; at++) {
      if (bytes[at] === LF) {
        if (this.#pending) {
          flush(from);
          told.push(this.#pending);
          this.#pending = undefined;
        }
        if (lines < 0) lines = from;
        from = at + 1;
      } else if (bytes[at] === CR && bytes[at + 1] !== LF) {
        flush(from);
        this.#pending = sliceOutput(whole, from, at + 1);
        from = at + 1;
        if (this.#now() - this.#told < EVERY_MS) continue;
        told.push(this.#pending);
        this.#pending = undefined;
        this.#told = this.#now();
      }
    }
    flush(from);
    if (from < bytes.length) this.#open = sliceOutput(whole, from, bytes.length);
    return told;
  }

  /** At the end: what was held back. */
  rest(): OutputSlice[] {
    const rest = [this.#pending, this.#open].filter(one => one !== undefined);
    this.#pending = undefined;
    this.#open = undefined;
    return rest;
  }
}

function sliceOutput({ bytes, source }: OutputSlice, from: number, to: number): OutputSlice {
  return {
    bytes: bytes.subarray(from, to),
    source: { ...source, offset: source.offset + from, length: to - from },
  };
}

function joinOutput(one: OutputSlice, next: OutputSlice): OutputSlice {
  const length = one.source.length + next.source.length;
  return { bytes: Buffer.concat([one.bytes, next.bytes]), source: { ...one.source, length } };
}
