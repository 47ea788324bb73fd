import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, StartStep } from '../../plan/plan.ts';
import { createDatabaseExecutor } from '../backup/database-executor.ts';
import {
  findBackupGroup,
  findSource,
  listBackupChanges,
  parseTimeouts,
  planPartialCleanup,
  planPrune,
  planReadBack,
  planTargetCheck,
  readVersion,
  summarizeGroup,
} from '../backup/group.ts';
import type { Intent, PlanContext } from '../executor.ts';
import { planDrill } from './drill.ts';
import { planRestore, type SqliteRestore } from './restore.ts';
import { planCopyCheck, sqlite3 } from './sqlite3.ts';

type SqliteBackupIntent = Extract<Intent, { action: 'backup'; database_type: 'sqlite' }>;

/** SQLite databases, while they are written to: page by page inside one read transaction, then checked. */
export const sqlite = createDatabaseExecutor<SqliteBackupIntent, SqliteRestore>({
  kind: 'sqlite',
  types: ['sqlite'],
  locks: intent =>
    intent.action === 'backup'
      ? `database ${intent.source ?? `${intent.source_container}:${intent.source_path}`}`
      : `database ${intent.to ?? `${intent.to_container}:${intent.to_path}`}`,
  backup: planBackup,
  restore: planRestore,
  drill: planDrill,
});

async function planBackup(intent: SqliteBackupIntent, context: PlanContext, look: HostReader): Promise<Plan> {
  const source = await findSource(intent, look);
  const shelf = await findBackupGroup(intent, context, look);
  const { folder, partial, last } = shelf;
  const slash = source.path.lastIndexOf('/');
  const file = source.path.slice(slash + 1);
  const copy = `${folder}/${partial}/${file}`;
  if ((await look.list(source.path.slice(0, slash)))?.includes(file) === false) {
    throw new Failure(
      'source-missing',
      `There is no file ${source.told}.`,
      'Correct the intent: it names the database’s file.',
    );
  }
  const times = parseTimeouts(intent);
  const dump: StartStep = sqlite3(
    'copy',
    source.path,
    // The transaction holds one state still while others write: without it the copy begins anew with each of their commits.
    ['.timeout 30000', 'BEGIN;', 'SELECT 1 FROM sqlite_master LIMIT 1;', `.backup '${copy}'`, 'COMMIT;'],
    times,
    [copy],
  );
  return {
    title: `backup of the database ${source.told} to ${folder}`,
    summary: summarizeGroup(shelf),
    changes: listBackupChanges(shelf, intent, context.at),
    steps: [
      planTargetCheck(shelf, (last?.bytes ?? 0) * 1.1, `/${partial}`),
      dump,
      planCopyCheck(copy, times),
      planReadBack(shelf, context, intent, {
        kind: 'sqlite',
        source: source.told,
        file,
        checks: ['integrity_check', 'it holds tables', 'sha256'],
        versions: { sqlite: await readVersion(['sqlite3'], look) },
      }),
      planPrune(shelf, intent),
    ],
    undo: [],
    cleanup: [planPartialCleanup(shelf, 'check the destination')],
  };
}
