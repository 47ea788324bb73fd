import type { LogSlice } from '../plan/progress.ts';

/** UTF-8 text, and its position in the log. */
interface OutputSlice {
  bytes: Buffer;
  source: LogSlice;
}

const CR = 0x0d;
const LF = 0x0a;

/** One redrawn line is kept in so many milliseconds. */
const INTERVAL_MS = 1_000;

/**
 * Thins out a line that a program draws again and again, each time with a carriage return (rsync does for each file): keeps
 * one a second and the last one. Keeps every line that ends with a newline.
 */
export class ProgressLineFilter {
  readonly #now: () => number;
  #lastEmitted = Number.NEGATIVE_INFINITY;
  /** The newest redrawn line that was held back. */
  #pending: OutputSlice | undefined;
  /** The start of a line that has not ended yet. */
  #line: OutputSlice | undefined;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  add(chunk: OutputSlice): OutputSlice[] {
    const kept: OutputSlice[] = [];
    const whole = this.#line ? joinOutput(this.#line, chunk) : chunk;
    this.#line = undefined;
    const { bytes } = whole;
    let from = 0;
    // Neighboring lines stay one chunk, which starts here; -1 for none.
    let lines = -1;
    const keepLines = (to: number) => {
      if (lines >= 0) kept.push(sliceOutput(whole, lines, to));
      lines = -1;
    };
    for (let index = 0; index < bytes.length; index++) {
      if (bytes[index] === LF) {
        if (this.#pending) {
          keepLines(from);
          kept.push(this.#pending);
          this.#pending = undefined;
        }
        if (lines < 0) lines = from;
        from = index + 1;
      } else if (bytes[index] === CR && bytes[index + 1] !== LF) {
        keepLines(from);
        this.#pending = sliceOutput(whole, from, index + 1);
        from = index + 1;
        if (this.#now() - this.#lastEmitted < INTERVAL_MS) continue;
        kept.push(this.#pending);
        this.#pending = undefined;
        this.#lastEmitted = this.#now();
      }
    }
    keepLines(from);
    if (from < bytes.length) this.#line = sliceOutput(whole, from, bytes.length);
    return kept;
  }

  /** Returns what is held back, once the output has ended. */
  flush(): OutputSlice[] {
    const rest = [this.#pending, this.#line].filter(slice => slice !== undefined);
    this.#pending = undefined;
    this.#line = undefined;
    return rest;
  }
}

function sliceOutput({ bytes, source }: OutputSlice, from: number, to: number): OutputSlice {
  return {
    bytes: bytes.subarray(from, to),
    source: { ...source, offset: source.offset + from, length: to - from },
  };
}

function joinOutput(first: OutputSlice, next: OutputSlice): OutputSlice {
  const length = first.source.length + next.source.length;
  return { bytes: Buffer.concat([first.bytes, next.bytes]), source: { ...first.source, length } };
}
