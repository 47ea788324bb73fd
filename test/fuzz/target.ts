import type { Random } from '../faults/random.ts';

/** What became of one case. `admitted`: let in what the reference refuses; `crashed`: something else than an answer. */
export type Verdict = { kind: 'fine'; letIn: boolean } | { kind: 'admitted' | 'crashed'; why: string; input: string };

/** Refused, or harmless; and let in, as the reference says too. */
export const FINE: Verdict = { kind: 'fine', letIn: false };
export const LET_IN: Verdict = { kind: 'fine', letIn: true };

/** Something that takes what strangers send. `one` makes a case from the random numbers and judges it. */
export interface Target {
  name: string;
  one: (random: Random) => Verdict | Promise<Verdict>;
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
