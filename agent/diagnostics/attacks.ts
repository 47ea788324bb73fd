import type { Attack } from './attack.ts';
import { commandFor, sendHttpRequest, sendSignedCommand } from './attacker.ts';
import { commandAttacks } from './command-attacks.ts';
import { forgeryAttacks } from './forgery-attacks.ts';
import { connectionAttacks, frameAttacks } from './wire-attacks.ts';

/** All attacks of a selftest. */
export const ATTACKS: readonly Attack[] = [...connectionAttacks, ...frameAttacks, ...forgeryAttacks, ...commandAttacks];

/** The last checks: the agent is alive, and still serves what is allowed. */
export const FINAL_ATTACKS: readonly Attack[] = [
  { name: 'afterwards the agent is alive', right: ['status 200'], run: target => sendHttpRequest(target, '/healthz') },
  {
    name: 'afterwards the agent accepts an allowed command',
    right: ['accepted'],
    run: target => sendSignedCommand(target, commandFor(target)),
  },
];
