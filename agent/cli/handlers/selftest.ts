import { writeFileSync } from 'node:fs';
import { generateKey, readSecretKey } from '../../../protocol/keys.ts';
import { messageOf } from '../../../protocol/refusal.ts';
import { VERSION } from '../../../protocol/version.ts';
import { parseListen, readConfig } from '../../config/load.ts';
import type { Attack } from '../../diagnostics/attack.ts';
import type { AttackTarget } from '../../diagnostics/attacker.ts';
import { ATTACKS, FINAL_ATTACKS } from '../../diagnostics/attacks.ts';
import type { Options } from '../commands.ts';
import { findSocket, requestAgent } from '../local-client.ts';

const PARALLEL_ATTACKS = 4;

interface AttackResult {
  name: string;
  right: string[];
  got: string;
  passed: boolean;
}

/** Attacks the agent of this host and reports each result; the agent signs the report. */
export async function selftestCommand(_args: [], options: Options<'selftest'>): Promise<number> {
  const { out, json } = options;
  const config = readConfig(options.config);
  const key = generateKey();
  const socket = findSocket(options);
  await requestAgent(socket, 'POST', '/selftest', { key: key.public });
  const { host, port } = parseListen(config.listen) ?? { host: '127.0.0.1', port: 0 };
  const target: AttackTarget = {
    ...{ host, port, tls: config.tls !== undefined, agent: config.agent },
    ...{ key: readSecretKey(key.secret), stranger: readSecretKey(generateKey().secret) },
  };
  const results: AttackResult[] = [];
  const report = (result: AttackResult) => {
    results.push(result);
    const expected = result.passed ? '' : `, expected ${result.right.join(' or ')}`;
    if (!json) console.log(`${result.passed ? '✓' : '✗'} ${result.name}: ${result.got}${expected}`);
  };
  const queue = [...ATTACKS];
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) report(await runAttack(next, target));
  };
  await Promise.all(Array.from({ length: PARALLEL_ATTACKS }, worker));
  for (const last of FINAL_ATTACKS) report(await runAttack(last, target));
  const failed = results.filter(({ passed }) => !passed).length;
  const summary = {
    agent: config.agent,
    version: VERSION,
    at: new Date().toISOString(),
    attacks: results.length,
    failed,
    results,
  };
  const signed = await requestAgent<object>(socket, 'POST', '/selftest/report', summary);
  if (out !== undefined) writeFileSync(out, `${JSON.stringify(signed, null, 1)}\n`, { mode: 0o644 });
  if (json) console.log(JSON.stringify(signed));
  else
    console.log(
      `${results.length} attacks, ${failed} unexpected results${out === undefined ? '' : `; report: ${out}`}`,
    );
  return failed === 0 ? 0 : 1;
}

async function runAttack({ name, right, run }: Attack, target: AttackTarget): Promise<AttackResult> {
  const got = await run(target).catch((error: unknown) => `fault: ${messageOf(error)}`);
  return { name, right, got, passed: right.includes(got) };
}
