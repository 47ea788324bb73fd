import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readConfig } from '../../config/load.ts';
import { AuditLog, type AuditRow, AuditVerifier } from '../../store/audit-log.ts';
import { Database } from '../../store/database.ts';
import type { Options } from '../commands.ts';
import { findSocket, requestLines } from '../local-client.ts';
import { cliRefusals } from '../refusals.ts';
import { createRemoteAgent } from '../remote.ts';

const PAGE = 500;

/** Prints the audit log as JSON lines. */
export async function auditExportCommand(_args: [], options: Options<'audit export'>): Promise<number> {
  for await (const row of readRows(options)) console.log(formatRow(row));
  return 0;
}

/** Verifies the chain of the audit log, and that it holds the rows that the user names. */
export async function auditVerifyCommand(_args: [], options: Options<'audit verify'>): Promise<number> {
  const anchors = [...options.expect.map(parseAnchor), ...options.receipt.flatMap(readAnchors)];
  const verifier = new AuditVerifier(new Map(anchors));
  for await (const row of readRows(options)) verifier.add(row);
  verifier.finish();
  const { head, broken } = verifier;
  if (options.json) console.log(JSON.stringify({ rows: head.n, digest: head.digest, ...(broken ? { broken } : {}) }));
  else if (broken)
    console.log(`✗ audit-broken at row ${broken.n}: ${broken.why}. The ${head.n} rows before it are intact.`);
  else console.log(`✓ ${head.n} rows, head ${head.digest}`);
  return broken ? 1 : 0;
}

function readRows(options: Options<'audit export'>): AsyncIterable<AuditRow> {
  return createRemoteAgent(options)?.audit() ?? readLocalRows(options);
}

/** Reads the rows from the running agent, or from its database if no agent answers. */
async function* readLocalRows({ config, socket }: Options<'audit export'>): AsyncGenerator<AuditRow> {
  const path = findSocket({ config, socket });
  try {
    yield* requestLines<AuditRow>(path, '/audit');
    return;
  } catch (error) {
    if (socket !== undefined || !existsSync(config)) throw error;
  }
  const database = new Database(join(readConfig(config).state_dir, 'chatops.db'));
  try {
    const log = new AuditLog(database);
    for (let page = log.rows(0, PAGE); page.length > 0; page = log.rows(page.at(-1)?.n ?? 0, PAGE)) yield* page;
  } finally {
    database.close();
  }
}

function formatRow({ n, at, body, digest }: AuditRow): string {
  return JSON.stringify({ n, at, ...(JSON.parse(body) as object), digest });
}

function parseAnchor(text: string): [number, string] {
  const [, n = '', digest = ''] = /^(\d+):([0-9a-f]{64})$/.exec(text) ?? [];
  if (digest === '')
    throw cliRefusals.optionInvalid(`--expect ${text}`, 'Write the number of a row, ":" and its digest.');
  return [Number(n), digest];
}

/** Reads audit heads from a receipt, or from the output `result` of the action. */
function readAnchors(file: string): [number, string][] {
  const value = JSON.parse(readFileSync(file, 'utf8')) as { receipts?: unknown[] };
  const receipts = (value.receipts ?? [value]) as { audit?: { rows: number; digest: string } }[];
  return receipts.flatMap(({ audit }) => (audit ? [[audit.rows, audit.digest] as [number, string]] : []));
}
