import type { AttackTarget } from './attacker.ts';

/** One attack, and the answers that are right. Its fields are in the signed report. */
export interface Attack {
  name: string;
  right: string[];
  run: (target: AttackTarget) => Promise<string>;
}
