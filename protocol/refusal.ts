import { z } from 'zod';

/** Why a run was not started. `code` is stable (docs/refusals.md has a heading for each); `remedy` says what to do next. */
export const Refusal = z.object({ code: z.string(), message: z.string(), remedy: z.string() });
export type Refusal = z.infer<typeof Refusal>;

/** A refusal on its way up: thrown before a run exists, never after. */
export class Refused extends Error {
  override name = 'Refused';
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(refusal.message);
    this.refusal = refusal;
  }

  get code(): string {
    return this.refusal.code;
  }
}

/** Returns the text of anything thrown: an error's message, or the value itself as text. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
