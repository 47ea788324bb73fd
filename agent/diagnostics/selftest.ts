import { readPublicKey } from '../../protocol/keys.ts';
import { Refused } from '../../protocol/refusal.ts';
import type { TrustedKey } from '../admission/authenticate.ts';
import { TrustEntry } from '../config/trust.ts';
import { refusals } from '../refusals.ts';

/** The time for which the agent trusts the key of a selftest, in milliseconds. */
export const SELFTEST_MS = 120_000;

/** The key may plan and dry-run one stack that does not exist. */
const ENTRY = {
  name: 'selftest',
  repository: 'chatops/selftest',
  allow: [{ actions: ['rollout'], stacks: ['chatops-selftest'], require_labels: ['chatops-selftest'] }],
};

/** The selftest that a user of this host has started, if any: for a while the agent trusts its key, with almost no rights. */
export class Selftest {
  #key: TrustedKey | undefined;
  #until = 0;

  /** Starts a selftest, also if one is running. Throws a KeyError. */
  start(key: string): void {
    this.#key = { ...readPublicKey(key), entry: TrustEntry.parse({ ...ENTRY, key }) };
    this.#until = performance.now() + SELFTEST_MS;
  }

  /** Ends the selftest. Throws `Refused` if none is running. */
  end(): void {
    if (this.keys().length === 0) throw new Refused(refusals.noSelftest());
    this.#key = undefined;
  }

  /** Returns the key to trust while a selftest is running. */
  keys(): TrustedKey[] {
    return this.#key && performance.now() <= this.#until ? [this.#key] : [];
  }
}
