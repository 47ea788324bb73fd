import { z } from 'zod';
import { PAYLOAD_TYPES, type Signed, signPayload } from '../../protocol/signature.ts';
import type { AgentKeys } from '../config/agent-keys.ts';
import type { Live } from '../config/live.ts';
import { type Config, parseListen } from '../config/load.ts';
import { SELFTEST_MS, type Selftest } from '../diagnostics/selftest.ts';
import type { AuditObserver } from '../observability/audit.ts';
import type { ConnectionLimits } from './connection-limits.ts';

/** The report that `chatops selftest` sends. */
export const SelftestReport = z.strictObject({
  agent: z.string(),
  version: z.string(),
  at: z.string(),
  attacks: z.int(),
  failed: z.int(),
  results: z
    .array(z.strictObject({ name: z.string(), right: z.array(z.string()), got: z.string(), passed: z.boolean() }))
    .max(500),
});
export type SelftestReport = z.infer<typeof SelftestReport>;

export interface SelftestEndpointDeps {
  live: Live<Config>;
  selftest: Selftest;
  limits: ConnectionLimits;
  audit: AuditObserver;
  keys: AgentKeys;
}

/** Starts selftests and signs their reports, for the command line on this host. */
export class SelftestEndpoint {
  readonly #deps: SelftestEndpointDeps;

  constructor(deps: SelftestEndpointDeps) {
    this.#deps = deps;
  }

  /** Trusts a key for a while, and lifts the rate limit for the address that attacks. Throws a KeyError. */
  start(key: string): void {
    const { live, selftest, limits, audit } = this.#deps;
    selftest.start(key);
    limits.exempt(parseListen(live.current.listen)?.host ?? '', SELFTEST_MS);
    audit.write('selftest', {});
  }

  /** Ends the selftest, and signs its report with the agent's keys. Throws `Refused` if no selftest is running. */
  signReport(report: SelftestReport): Signed {
    const { selftest, audit, keys } = this.#deps;
    selftest.end();
    audit.write('selftest-ended', { ...report, results: undefined });
    return signPayload(PAYLOAD_TYPES.selftest, Buffer.from(JSON.stringify(report)), keys.all);
  }
}
