import { findRoot } from '../../plan/paths.ts';
import type { HostReader, Plan } from '../../plan/plan.ts';
import { type Executor, type Intent, listVerifyHosts, type PlanContext, parseBackupSubject } from '../executor.ts';
import { backupGroupLocks, listBackupClaims } from './group.ts';

type DatabaseBackupIntent = Extract<Intent, { action: 'backup'; database_type: string }>;
type DatabaseRestoreIntent = Extract<
  Intent,
  { action: 'restore'; of: { kind: 'sqlite' | 'plex' | 'postgres' | 'mysql' } }
>;
type DrillIntent = Extract<Intent, { action: 'drill' }>;
type PlanFunction<I> = (intent: I, context: PlanContext, look: HostReader) => Promise<Plan>;

/** What makes one kind of database another than the next. */
export interface DatabaseKind<B extends DatabaseBackupIntent, R extends DatabaseRestoreIntent> {
  kind: string;
  /** The `database_type`s that it takes. */
  types: string[];
  /** What is locked while it is backed up or restored. */
  locks(intent: B | R): string;
  backup: PlanFunction<B>;
  restore: PlanFunction<R>;
  drill: PlanFunction<DrillIntent>;
}

/** The executor of a kind of database: backup, restore and drill. */
export function createDatabaseExecutor<B extends DatabaseBackupIntent, R extends DatabaseRestoreIntent>(
  of: DatabaseKind<B, R>,
): Executor<B | R | DrillIntent> {
  const isOne = (intent: Intent): intent is B | R | DrillIntent =>
    intent.action === 'restore' || intent.action === 'drill'
      ? typeof intent.of === 'object' && intent.of.kind === of.kind
      : intent.action === 'backup' && 'database_type' in intent && of.types.includes(intent.database_type);
  return {
    kind: of.kind,
    supports: isOne,
    lockSubjects(intent, document) {
      if (intent.action === 'drill') return backupGroupLocks(intent.from, parseBackupSubject(intent.of).name);
      const stack = intent.stack === undefined ? [] : [`stack ${intent.stack}`];
      if (intent.action === 'restore')
        return [of.locks(intent), ...backupGroupLocks(intent.from, intent.of.name), ...stack];
      return [of.locks(intent), ...backupGroupLocks(placeOf(intent), intent.id ?? document.name), ...stack];
    },
    claimPaths(intent, site) {
      if (intent.action === 'backup') {
        const source = 'source' in intent ? intent.source : undefined;
        return listBackupClaims({ source, destination: placeOf(intent) }, site);
      }
      const to = 'to' in intent ? intent.to : undefined;
      const claims = listBackupClaims({ destination: intent.from }, site);
      return to === undefined ? claims : [...claims, { path: to, root: findRoot(to, site.backups.sources) }];
    },
    listHosts: intent => (intent.action === 'restore' && intent.verify ? listVerifyHosts(intent.verify) : []),
    plan(intent, context, look) {
      if (intent.action === 'restore') return of.restore(intent as R, context, look);
      return intent.action === 'drill' ? of.drill(intent, context, look) : of.backup(intent as B, context, look);
    },
  };
}

/** Where its backups lie; a path inside a container is told as such. */
function placeOf(intent: DatabaseBackupIntent): string | undefined {
  if (!('destination_path' in intent) || intent.destination !== undefined) return intent.destination;
  const { destination_container: container, destination_path: path } = intent;
  return container === undefined ? path : `${container}:${path}`;
}
