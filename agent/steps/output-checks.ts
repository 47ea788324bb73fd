import type { StartStep } from '../plan/plan.ts';
import type { StepResult } from '../plan/progress.ts';
import { toReadable } from '../system/hidden-text.ts';
import type { TailedChunk } from '../system/log-tail.ts';

/** Lines of warnings that a result repeats. */
const MAX_WARNINGS = 5;
/** Bytes of a line that a result repeats. */
const REPEATED_LINE_BYTES = 500;
/** Bytes of the last output that are searched for a temporary failure and for a reason. */
const RECENT_BYTES = 4096;

/**
 * The state of the checks after `offset` bytes of the log. It contains no output but redacted lines, only how far each text
 * was found: an agent that resumes the step continues with it, because the log has lost its secrets.
 */
export interface OutputChecksState {
  /** The order whose output it is. */
  order: number;
  offset: number;
  texts: SearchedText['state'][];
  lines: LineRule['state'][];
  line: string;
  fatalLine?: string | undefined;
  warnings: string[];
}

/**
 * Searches a step's raw output, as it arrives, for the texts that decide its result. What it reports of the output is
 * redacted.
 */
export class OutputChecks {
  readonly #order: number;
  readonly #step: StartStep;
  readonly #texts: Map<string, SearchedText>;
  readonly #fatal: LineRule[];
  readonly #warnings: LineRule[];
  readonly #rules: LineRule[];
  #offset: number;
  #line: Buffer = Buffer.alloc(0);
  #fatalLine: string | undefined;
  #warningLines: string[] = [];

  /** `from`: the log's length when the order was given. `saved`: the state that an earlier agent kept. */
  constructor(step: StartStep, order: number, from: number, saved?: OutputChecksState) {
    const { mustSay = [], mustNotSay = [], warnings = [], fatal = [], retry = [], reasons = [] } = step;
    const texts = [
      ...mustSay,
      ...mustNotSay,
      ...retry.flatMap(({ on }) => on),
      ...reasons.flatMap(({ says }) => says ?? []),
    ];
    this.#step = step;
    this.#order = order;
    this.#offset = from;
    this.#texts = new Map(texts.map(text => [text, new SearchedText(text)]));
    this.#fatal = fatal.map(({ begins, ends }) => new LineRule(begins, ends));
    this.#warnings = warnings.map(begins => new LineRule(begins, []));
    this.#rules = [...this.#fatal, ...this.#warnings];
    if (saved?.order === order) this.#restore(saved);
  }

  /** Bytes of the log that were checked. */
  get offset(): number {
    return this.#offset;
  }

  get state(): OutputChecksState {
    return {
      order: this.#order,
      offset: this.#offset,
      texts: [...this.#texts.values()].map(({ state }) => state),
      lines: this.#rules.map(({ state }) => state),
      line: readable(this.#line),
      fatalLine: this.#fatalLine,
      warnings: this.#warningLines,
    };
  }

  /** Checks a part of the log. Skips what was checked before. */
  add({ bytes, raw, source }: TailedChunk): void {
    const skipped = this.#offset - source.offset;
    if (skipped >= source.length) return;
    const fresh = skipped > 0 ? raw.subarray(skipped) : raw;
    for (const text of this.#texts.values()) text.add(fresh, this.#offset);
    if (this.#rules.length > 0) this.#addLines(fresh, skipped > 0 ? bytes.subarray(skipped) : bytes);
    this.#offset = source.offset + source.length;
  }

  /** Returns true if the last output has the text. */
  saidLately(text: string): boolean {
    const start = this.#texts.get(text)?.lastStart;
    return start !== undefined && start >= this.#offset - RECENT_BYTES;
  }

  /** Returns the result that the output allows: a success may become a failure, or get its warnings. */
  apply(result: StepResult): StepResult {
    if (result.outcome !== 'succeeded') return result;
    this.#endLine();
    const { mustSay = [], mustNotSay = [], failure, name } = this.#step;
    const missing = mustSay.find(text => !this.#said(text));
    const found = mustNotSay.find(text => this.#said(text)) ?? this.#fatalLine;
    if (missing !== undefined || found !== undefined) {
      const why = found === undefined ? `did not print "${missing}"` : `printed "${found}"`;
      const message = `"${name}" ended with exit code ${result.exit}, but ${why}.`;
      return { ...result, outcome: 'failed', code: failure.code, message, remedy: failure.remedy };
    }
    if (this.#warningLines.length === 0) return result;
    return { ...result, message: `with warnings: ${this.#warningLines.join(' / ')}` };
  }

  #said(text: string): boolean {
    return this.#texts.get(text)?.lastStart !== undefined;
  }

  #restore({ offset, texts, lines, line, fatalLine, warnings }: OutputChecksState): void {
    this.#offset = offset;
    for (const [index, text] of [...this.#texts.values()].entries()) text.state = texts[index] ?? text.state;
    for (const [index, rule] of this.#rules.entries()) rule.state = lines[index] ?? rule.state;
    this.#line = Buffer.from(line);
    this.#fatalLine = fatalLine;
    this.#warningLines = warnings;
  }

  #addLines(raw: Buffer, redacted: Buffer): void {
    let start = 0;
    for (let index = 0; index < raw.length; index++) {
      const byte = raw[index];
      if (byte !== LF && byte !== CR) continue;
      this.#continueLine(raw, redacted, start, index);
      this.#endLine();
      start = index + 1;
    }
    this.#continueLine(raw, redacted, start, raw.length);
  }

  #continueLine(raw: Buffer, redacted: Buffer, from: number, to: number): void {
    if (from === to) return;
    const part = raw.subarray(from, to);
    let isWanted = false;
    for (const rule of this.#rules) isWanted = rule.add(part) || isWanted;
    if (isWanted && this.#line.length < REPEATED_LINE_BYTES)
      this.#line = Buffer.concat([this.#line, redacted.subarray(from, to)]).subarray(0, REPEATED_LINE_BYTES);
  }

  #endLine(): void {
    if (this.#fatal.some(rule => rule.matches)) this.#fatalLine ??= readable(this.#line);
    if (this.#warnings.some(rule => rule.matches) && this.#warningLines.length < MAX_WARNINGS)
      this.#warningLines.push(readable(this.#line));
    for (const rule of this.#rules) rule.endLine();
    this.#line = Buffer.alloc(0);
  }
}

const [LF, CR] = [0x0a, 0x0d];

function readable(bytes: Buffer): string {
  return toReadable(bytes).toString();
}

/** A text that is searched for in bytes that come in parts. */
class SearchedText {
  readonly #text: Buffer;
  /** `progress`: so many of its bytes were the last ones. `lastStart`: offset of its last occurrence. */
  state: { progress: number; lastStart: number | null } = { progress: 0, lastStart: null };

  constructor(text: string) {
    this.#text = Buffer.from(text);
  }

  get lastStart(): number | undefined {
    return this.state.lastStart ?? undefined;
  }

  add(bytes: Buffer, offset: number): void {
    const { progress, lastStart } = this.state;
    const text = this.#text;
    const border = Buffer.concat([text.subarray(0, progress), bytes.subarray(0, text.length - 1)]);
    const atBorder = border.lastIndexOf(text);
    const within = bytes.lastIndexOf(text);
    const found = within >= 0 ? offset + within : atBorder >= 0 ? offset - progress + atBorder : lastStart;
    this.state = { progress: progressOf(text, progress, bytes, text.length - 1), lastStart: found };
  }
}

/** A line that begins with a text, and ends with one of some others. */
class LineRule {
  readonly #begins: Buffer;
  readonly #ends: Buffer[];
  /** `begun`: so many bytes of its beginning were found; -1: the line begins otherwise. `ended`: those of its ends. */
  state: { begun: number; ended: number[] };

  constructor(begins: string, ends: readonly string[]) {
    this.#begins = Buffer.from(begins);
    this.#ends = ends.map(end => Buffer.from(end));
    this.state = { begun: 0, ended: this.#ends.map(() => 0) };
  }

  get matches(): boolean {
    const { begun, ended } = this.state;
    const hasEnded = ended.length === 0 || ended.some((progress, index) => progress === this.#ends[index]?.length);
    return begun === this.#begins.length && hasEnded;
  }

  /** Returns true if the line may still match. */
  add(part: Buffer): boolean {
    const { begun } = this.state;
    const missing = this.#begins.subarray(Math.max(begun, 0), Math.max(begun, 0) + part.length);
    if (begun >= 0 && !part.subarray(0, missing.length).equals(missing)) this.state.begun = -1;
    if (this.state.begun < 0) return false;
    this.state.begun += missing.length;
    if (this.#ends.length > 0)
      this.state.ended = this.#ends.map((end, index) =>
        progressOf(end, this.state.ended[index] ?? 0, part, end.length),
      );
    return true;
  }

  endLine(): void {
    this.state = { begun: 0, ended: this.#ends.map(() => 0) };
  }
}

/** Returns how many of the text's first bytes (at most `most`) are the last ones, after a progress and more bytes. */
function progressOf(text: Buffer, progress: number, bytes: Buffer, most: number): number {
  const last = Buffer.concat([text.subarray(0, progress), bytes.subarray(-text.length)]);
  for (let length = Math.min(most, last.length); length > 0; length--)
    if (last.subarray(-length).equals(text.subarray(0, length))) return length;
  return 0;
}
