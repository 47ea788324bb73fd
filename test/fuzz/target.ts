import type { Random } from '../faults/random.ts';

/** The result of one case. `admitted`: the code accepts input that the reference refuses; `crashed`: it threw in place of an answer. */
export type Verdict = { kind: 'fine'; letIn: boolean } | { kind: 'admitted' | 'crashed'; why: string; input: string };

/** Refused or harmless. */
export const FINE: Verdict = { kind: 'fine', letIn: false };
/** Let in, which the reference permits. */
export const LET_IN: Verdict = { kind: 'fine', letIn: true };

/** Code that reads untrusted input. `run` creates a case from the random numbers and checks the result. */
export interface Target {
  name: string;
  run: (random: Random) => Verdict | Promise<Verdict>;
}

export function admitted(why: string, input: unknown): Verdict {
  return { kind: 'admitted', why, input: shown(input) };
}

export function crashed(why: unknown, input: unknown): Verdict {
  return { kind: 'crashed', why: why instanceof Error ? (why.stack ?? why.message) : String(why), input: shown(input) };
}

function shown(input: unknown): string {
  return (typeof input === 'string' ? input : (JSON.stringify(input) ?? String(input))).slice(0, 2_000);
}
