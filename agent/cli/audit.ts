import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readConfig } from '../config/load.ts';
import { AuditLog, type AuditRow, AuditVerifier } from '../store/audit-log.ts';
import { Database } from '../store/database.ts';
import { AGENT_OPTIONS, findSocket, requestLines } from './local-client.ts';
import { cliRefusals } from './refusals.ts';
import { createRemoteAgent, REMOTE_OPTIONS } from './remote.ts';

const USAGE =
  'usage: chatops audit export | verify [--expect N:DIGEST …] [--receipt FILE …] [--json] [--config FILE | --socket PATH | --agent …]\n';
const PAGE = 500;

/** `export` prints the audit as JSON lines; `verify` follows its chain, and says where it is broken. */
export async function auditCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      ...AGENT_OPTIONS,
      ...REMOTE_OPTIONS,
      expect: { type: 'string', multiple: true, default: [] },
      receipt: { type: 'string', multiple: true, default: [] },
    },
  });
  const [verb, ...rest] = positionals;
  if ((verb !== 'export' && verb !== 'verify') || rest.length > 0) {
    throw cliRefusals.wrongCall(USAGE);
  }
  const check = new AuditVerifier(new Map([...values.expect.map(anchorOf), ...values.receipt.flatMap(anchorsIn)]));
  for await (const row of createRemoteAgent(values)?.audit() ?? readRows(values)) {
    check.add(row);
    if (verb === 'export') console.log(formatRow(row));
  }
  if (verb === 'export') return 0;
  check.finish();
  const { head, broken } = check;
  if (values.json) console.log(JSON.stringify({ rows: head.n, digest: head.digest, ...(broken ? { broken } : {}) }));
  else if (broken)
    console.log(`✗ audit-broken at row ${broken.n}: ${broken.why}. The ${head.n} rows before are as they were.`);
  else console.log(`✓ ${head.n} rows, head ${head.digest}`);
  return broken ? 1 : 0;
}

/** From the agent where one runs, else from its database. */
async function* readRows(values: { config: string; socket?: string | undefined }): AsyncGenerator<AuditRow> {
  const socket = findSocket(values);
  try {
    yield* requestLines<AuditRow>(socket, '/audit');
    return;
  } catch (error) {
    if (values.socket !== undefined || !existsSync(values.config)) throw error;
  }
  const database = new Database(join(readConfig(values.config).state_dir, 'chatops.db'));
  try {
    const chain = new AuditLog(database);
    for (let page = chain.rows(0, PAGE); page.length > 0; page = chain.rows(page.at(-1)?.n ?? 0, PAGE)) yield* page;
  } finally {
    database.close();
  }
}

function formatRow({ n, at, body, digest }: AuditRow): string {
  return JSON.stringify({ n, at, ...(JSON.parse(body) as object), digest });
}

function anchorOf(text: string): [number, string] {
  const [, n = '', digest = ''] = /^(\d+):([0-9a-f]{64})$/.exec(text) ?? [];
  if (digest === '') throw cliRefusals.optionInvalid(`--expect ${text}`, 'Write a row’s number, ":" and its digest.');
  return [Number(n), digest];
}

/** A receipt, or what the action's output `result` holds: receipts with the audit's head of their time. */
function anchorsIn(file: string): [number, string][] {
  const value = JSON.parse(readFileSync(file, 'utf8')) as { receipts?: unknown[] };
  const receipts = (value.receipts ?? [value]) as { audit?: { rows: number; digest: string } }[];
  return receipts.flatMap(({ audit }) => (audit ? [[audit.rows, audit.digest] as [number, string]] : []));
}
