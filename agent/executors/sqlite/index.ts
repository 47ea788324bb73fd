import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan } from '../../plan/plan.ts';
import { createDatabaseExecutor } from '../backup/database-executor.ts';
import { planDump } from '../backup/dump.ts';
import { findBackupGroup, findSource, parseTimeouts, readVersion } from '../backup/group.ts';
import { copiesFile, DISK_FULL, planScratchCheck, readsFrom, writesTo } from '../backup/opened.ts';
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
  const { site, run } = context;
  const source = await findSource(intent, site, host);
  const group = await findBackupGroup(intent, context, host);
  const slash = source.path.lastIndexOf('/');
  const file = source.path.slice(slash + 1);
  // SQLite writes by path: at the destination that could be a link, in the agent's own folder it can't.
  const scratch = `${site.backups.records}/copy-${run}`;
  const copy = `${scratch}/${file}`;
  if ((await host.list(source.path.slice(0, slash)))?.includes(file) === false) {
    throw new Failure(
      'source-missing',
      `There is no file ${source.label}.`,
      'Correct the path of the database’s file in the intent.',
    );
  }
  const times = parseTimeouts(intent);
  // Without the transaction SQLite starts the copy again after each commit of another process.
  const before = ['.timeout 30000', 'BEGIN;'];
  const script = [`.backup '${copy}'`, 'COMMIT;'];
  const root = site.backups.records;
  return planDump(intent, context, group, {
    source: `the database ${source.label}`,
    space: 1.1,
    room: planScratchCheck('check the space for a copy', scratch, (group.last?.bytes ?? 0) * 1.1, site),
    dump: {
      steps: [sqlite3('copy', source, { before, script }, times, [copy])],
      cleanup: [
        { do: 'clear', name: 'clear the copy away', path: scratch, root, ifBegan: 'check the space for a copy' },
      ],
    },
    check: { steps: [planCopyCheck({ path: copy, root }, times)], cleanup: [] },
    pack: [
      {
        do: 'start',
        name: 'store',
        ...copiesFile(readsFrom(copy, site), writesTo(`${group.folder}/${group.partial}/${file}`, site)),
        ...times,
        repeatable: true,
        failure: { code: 'copy-failed', remedy: 'Read the step’s output. No earlier backup was changed.' },
        reasons: [DISK_FULL],
      },
    ],
    manifest: {
      kind: 'sqlite',
      source: source.label,
      file,
      checks: ['integrity_check', 'it holds tables', 'sha256'],
      versions: { sqlite: await readVersion(['sqlite3'], host) },
    },
  });
}
