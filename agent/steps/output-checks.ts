import type { StartStep } from '../plan/plan.ts';
import type { StepResult } from '../plan/progress.ts';

/** Lines of warnings that a result repeats. */
const MAX_WARNINGS = 5;

/** Characters; longer than any text that is searched for. */
const OVERLAP = 512;

/** Checks a step's output, as it arrives, for the texts that it must and must not contain. */
export class OutputChecks {
  readonly #isIdle: boolean;
  readonly #missing: Set<string>;
  readonly #unwanted: string[];
  readonly #warningPrefixes: string[];
  readonly #fatal: NonNullable<StartStep['fatal']>;
  readonly #warnings: string[] = [];
  #found: string | undefined;
  #tail = '';
  #line = '';

  constructor({ mustSay = [], mustNotSay = [], warnings = [], fatal = [] }: StartStep) {
    this.#isIdle = mustSay.length + mustNotSay.length + warnings.length + fatal.length === 0;
    this.#missing = new Set(mustSay);
    this.#unwanted = mustNotSay;
    this.#warningPrefixes = warnings;
    this.#fatal = fatal;
  }

  add(text: string): void {
    if (this.#isIdle) return;
    const window = this.#tail + text;
    for (const wanted of this.#missing) if (window.includes(wanted)) this.#missing.delete(wanted);
    this.#found ??= this.#unwanted.find(unwanted => window.includes(unwanted));
    this.#tail = window.slice(-OVERLAP);
    const lines = (this.#line + text).split(/[\r\n]/);
    this.#line = lines.pop() ?? '';
    this.#found ??= lines.find(line => this.#isFatal(line));
    this.#warnings.push(...lines.filter(line => this.#warningPrefixes.some(prefix => line.startsWith(prefix))));
  }

  #isFatal(line: string): boolean {
    return this.#fatal.some(
      ({ begins, ends }) => line.startsWith(begins) && (ends.length === 0 || ends.some(end => line.endsWith(end))),
    );
  }

  /** Returns the result that the output allows: a success may become a failure, or get its warnings. */
  apply(result: StepResult, step: StartStep): StepResult {
    if (result.outcome !== 'succeeded') return result;
    const [missing] = this.#missing;
    if (missing !== undefined || this.#found !== undefined) {
      const why = this.#found === undefined ? `did not print "${missing}"` : `printed "${this.#found}"`;
      const { code, remedy } = step.failure;
      const message = `"${step.name}" ended with exit code ${result.exit}, but ${why}.`;
      return { ...result, outcome: 'failed', code, message, remedy };
    }
    if (this.#warnings.length === 0) return result;
    return { ...result, message: `with warnings: ${this.#warnings.slice(0, MAX_WARNINGS).join(' / ')}` };
  }
}
