import { type PublicKey, readPublicKey } from '../../protocol/keys.ts';
import type { AuthContext } from '../admission/authenticate.ts';
import { TrustEntry } from '../config/trust.ts';

/** How long the agent trusts the key of a selftest, in milliseconds. */
export const SELFTEST_MS = 120_000;
/** What the key may do: plan and dry-run one stack that nobody has. */
const ENTRY = {
  name: 'selftest',
  repository: 'chatops/selftest',
  allow: [{ actions: ['rollout'], stacks: ['chatops-selftest'], require_labels: ['chatops-selftest'] }],
};

/** A selftest that somebody on the host has asked for: for a while the agent trusts its key, for next to nothing. */
export class Selftest {
  readonly #key: PublicKey;
  readonly #entry: TrustEntry;
  readonly #until: number;

  /** Throws a KeyError. */
  constructor(key: string) {
    this.#key = readPublicKey(key);
    this.#entry = TrustEntry.parse({ ...ENTRY, key });
    this.#until = performance.now() + SELFTEST_MS;
  }

  get isOver(): boolean {
    return performance.now() > this.#until;
  }

  /** Who is trusted, and beside them the key of this test. */
  beside(judges: AuthContext): AuthContext {
    if (this.isOver) return judges;
    return {
      ...judges,
      keys: [...judges.keys, { ...this.#key, entry: this.#entry }],
      entries: [...judges.entries, this.#entry],
    };
  }
}
