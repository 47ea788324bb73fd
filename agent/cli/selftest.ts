import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { generateKey, readSecretKey } from '../../protocol/keys.ts';
import { messageOf } from '../../protocol/refusal.ts';
import { VERSION } from '../../protocol/version.ts';
import { parseListen, readConfig } from '../config/load.ts';
import type { Attack } from '../diagnostics/attack.ts';
import type { AttackTarget } from '../diagnostics/attacker.ts';
import { ATTACKS, FINAL_ATTACKS } from '../diagnostics/attacks.ts';
import { findSocket, requestAgent } from './local-client.ts';
import { cliRefusals } from './refusals.ts';

const USAGE = 'usage: chatops selftest --attack [--out REPORT.json] [--json] [--config FILE]\n';
/** So many attacks go on side by side. */
const PARALLEL_ATTACKS = 4;

interface AttackResult {
  name: string;
  right: string[];
  got: string;
  passed: boolean;
}

/** Attacks the agent of this host, and writes down what became of each attack; the agent signs that report. */
export async function selftestCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      attack: { type: 'boolean', default: false },
      out: { type: 'string' },
      json: { type: 'boolean', default: false },
      config: { type: 'string', default: '/etc/chatops/agent.yaml' },
    },
  });
  if (!values.attack || positionals.length > 0) {
    throw cliRefusals.wrongCall(USAGE);
  }
  const config = readConfig(values.config);
  const key = generateKey();
  const socket = findSocket(values);
  await requestAgent(socket, 'POST', '/selftest', { key: key.public });
  const { host, port } = parseListen(config.listen) ?? { host: '127.0.0.1', port: 0 };
  const ground: AttackTarget = {
    ...{ host, port, tls: config.tls !== undefined, agent: config.agent },
    ...{ key: readSecretKey(key.secret), stranger: readSecretKey(generateKey().secret) },
  };
  const results: AttackResult[] = [];
  const tell = (result: AttackResult) => {
    results.push(result);
    const expected = result.passed ? '' : `, expected ${result.right.join(' or ')}`;
    if (!values.json) console.log(`${result.passed ? '✓' : '✗'} ${result.name}: ${result.got}${expected}`);
  };
  const waiting = [...ATTACKS];
  const lane = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) tell(await runAttack(next, ground));
  };
  await Promise.all(Array.from({ length: PARALLEL_ATTACKS }, lane));
  for (const last of FINAL_ATTACKS) tell(await runAttack(last, ground));
  const failed = results.filter(({ passed }) => !passed).length;
  const report = {
    agent: config.agent,
    version: VERSION,
    at: new Date().toISOString(),
    attacks: results.length,
    failed,
    results,
  };
  const signed = await requestAgent<object>(socket, 'POST', '/selftest/report', report);
  if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(signed, null, 1)}\n`, { mode: 0o644 });
  if (values.json) console.log(JSON.stringify(signed));
  else
    console.log(
      `${results.length} attacks, ${failed} not as they should be${values.out === undefined ? '' : `; report: ${values.out}`}`,
    );
  return failed === 0 ? 0 : 1;
}

async function runAttack({ name, right, run }: Attack, ground: AttackTarget): Promise<AttackResult> {
  const got = await run(ground).catch((error: unknown) => `fault: ${messageOf(error)}`);
  return { name, right, got, passed: right.includes(got) };
}
