import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan } from '../../plan/plan.ts';
import { createDatabaseExecutor } from '../backup/database-executor.ts';
import { planDump } from '../backup/dump.ts';
import { findBackupGroup, findSource, parseTimeouts, readVersion } from '../backup/group.ts';
import type { Intent, PlanContext } from '../executor.ts';
import { restoreSqliteByHand } from './by-hand.ts';
import { planSqliteDrill } from './drill.ts';
import { planSqliteRestore, type SqliteRestore } from './restore.ts';
import { planCopyCheck, sqlite3 } from './sqlite3.ts';

type SqliteBackupIntent = Extract<Intent, { action: 'backup'; database_type: 'sqlite' }>;

/** SQLite databases that are in use: copied page by page inside one read transaction, then checked. */
export const sqlite = createDatabaseExecutor<SqliteBackupIntent, SqliteRestore>({
  kind: 'sqlite',
  types: ['sqlite'],
  locks: intent =>
    intent.action === 'backup'
      ? `database ${intent.source ?? `${intent.source_container}:${intent.source_path}`}`
      : `database ${intent.to ?? `${intent.to_container}:${intent.to_path}`}`,
  backup: planSqliteBackup,
  restore: planSqliteRestore,
  drill: planSqliteDrill,
  restoreByHand: restoreSqliteByHand,
});

async function planSqliteBackup(intent: SqliteBackupIntent, context: PlanContext, host: HostReader): Promise<Plan> {
  const source = await findSource(intent, host);
  const group = await findBackupGroup(intent, context, host);
  const slash = source.path.lastIndexOf('/');
  const file = source.path.slice(slash + 1);
  const copy = `${group.folder}/${group.partial}/${file}`;
  if ((await host.list(source.path.slice(0, slash)))?.includes(file) === false) {
    throw new Failure(
      'source-missing',
      `There is no file ${source.label}.`,
      'Correct the path of the database’s file in the intent.',
    );
  }
  const times = parseTimeouts(intent);
  // Without the transaction SQLite starts the copy again after each commit of another process.
  const script = ['.timeout 30000', 'BEGIN;', 'SELECT 1 FROM sqlite_master LIMIT 1;', `.backup '${copy}'`, 'COMMIT;'];
  return planDump(intent, context, group, {
    source: `the database ${source.label}`,
    space: 1.1,
    dump: { steps: [sqlite3('copy', source.path, script, times, [copy])], cleanup: [] },
    check: { steps: [planCopyCheck(copy, times)], cleanup: [] },
    manifest: {
      kind: 'sqlite',
      source: source.label,
      file,
      checks: ['integrity_check', 'it holds tables', 'sha256'],
      versions: { sqlite: await readVersion(['sqlite3'], host) },
    },
  });
}
