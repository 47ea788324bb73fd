import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { generateKey, readSecretKey } from '../../protocol/keys.ts';
import { VERSION } from '../../protocol/version.ts';
import { parseListen, readConfig } from '../config/load.ts';
import type { Ground } from '../diagnostics/attacker.ts';
import { AFTERWARDS, ATTACKS, type Attack } from '../diagnostics/attacks.ts';
import { ask, socketOf } from './local-client.ts';
import { refusals } from './refusals.ts';

const USAGE = 'usage: chatops selftest --attack [--out REPORT.json] [--json] [--config FILE]\n';
/** So many attacks go on side by side. */
const LANES = 4;

interface Result {
  name: string;
  right: string[];
  got: string;
  passed: boolean;
}

/** Attacks the agent of this host, and writes down what became of each attack; the agent signs that report. */
export async function selftest(args: string[]): Promise<number> {
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
    throw refusals.wrongCall(USAGE);
  }
  const config = readConfig(values.config);
  const key = generateKey();
  const socket = socketOf(values);
  await ask(socket, 'POST', '/selftest', { key: key.public });
  const { host, port } = parseListen(config.listen) ?? { host: '127.0.0.1', port: 0 };
  const ground: Ground = {
    ...{ host, port, tls: config.tls !== undefined, agent: config.agent },
    ...{ key: readSecretKey(key.secret), stranger: readSecretKey(generateKey().secret) },
  };
  const results: Result[] = [];
  const tell = (result: Result) => {
    results.push(result);
    const expected = result.passed ? '' : `, expected ${result.right.join(' or ')}`;
    if (!values.json) console.log(`${result.passed ? '✓' : '✗'} ${result.name}: ${result.got}${expected}`);
  };
  const waiting = [...ATTACKS];
  const lane = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) tell(await carry(next, ground));
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  for (const last of AFTERWARDS) tell(await carry(last, ground));
  const failed = results.filter(({ passed }) => !passed).length;
  const report = {
    agent: config.agent,
    version: VERSION,
    at: new Date().toISOString(),
    attacks: results.length,
    failed,
    results,
  };
  const signed = await ask<object>(socket, 'POST', '/selftest/report', report);
  if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(signed, null, 1)}\n`, { mode: 0o644 });
  if (values.json) console.log(JSON.stringify(signed));
  else
    console.log(
      `${results.length} attacks, ${failed} not as they should be${values.out === undefined ? '' : `; report: ${values.out}`}`,
    );
  return failed === 0 ? 0 : 1;
}

async function carry({ name, right, run }: Attack, ground: Ground): Promise<Result> {
  const got = await run(ground).catch((error: unknown) => `fault: ${error instanceof Error ? error.message : error}`);
  return { name, right, got, passed: right.includes(got) };
}
