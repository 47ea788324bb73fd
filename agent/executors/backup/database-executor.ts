import type { BackupDescription } from '../../plan/backup-manifest.ts';
import { findRoot } from '../../plan/paths.ts';
import type { HostReader, Plan } from '../../plan/plan.ts';
import {
  defineExecutor,
  type Executor,
  type Intent,
  listVerifyHosts,
  type PlanContext,
  parseBackupSubject,
} from '../executor.ts';
import type { DrillIntent } from './drill.ts';
import { backupGroupLocks, listBackupClaims } from './group.ts';
import type { DatabaseRestoreIntent } from './restore.ts';

type DatabaseBackupIntent = Extract<Intent, { action: 'backup'; database_type: string }>;
type PlanFunction<I> = (intent: I, context: PlanContext, host: HostReader) => Promise<Plan>;

/** The parts that differ from kind to kind. */
export interface DatabaseKind<B extends DatabaseBackupIntent, R extends DatabaseRestoreIntent> {
  kind: string;
  /** The values of `database_type` that it supports. */
  types: string[];
  /** Returns the lock that a backup or a restore holds. */
  locks(intent: B | R): string;
  backup: PlanFunction<B>;
  restore: PlanFunction<R>;
  drill: PlanFunction<DrillIntent>;
  /** Returns the commands with which an operator restores a backup without this product, for RESTORE.md. */
  restoreByHand(manifest: BackupDescription): string;
}

/** Creates the executor of a kind of database. */
export function createDatabaseExecutor<B extends DatabaseBackupIntent, R extends DatabaseRestoreIntent>(
  kind: DatabaseKind<B, R>,
): Executor {
  const isOne = (intent: Intent): intent is B | R | DrillIntent =>
    intent.action === 'restore' || intent.action === 'drill'
      ? typeof intent.of === 'object' && intent.of.kind === kind.kind
      : intent.action === 'backup' && 'database_type' in intent && kind.types.includes(intent.database_type);
  return defineExecutor<B | R | DrillIntent>({
    kind: kind.kind,
    supports: isOne,
    lockSubjects(intent, document) {
      if (intent.action === 'drill') return backupGroupLocks(intent.from, parseBackupSubject(intent.of).name);
      const stack = intent.stack === undefined ? [] : [`stack ${intent.stack}`];
      if (intent.action === 'restore')
        return [kind.locks(intent), ...backupGroupLocks(intent.from, intent.of.name), ...stack];
      return [kind.locks(intent), ...backupGroupLocks(destinationOf(intent), intent.id ?? document.name), ...stack];
    },
    claimPaths(intent, site) {
      if (intent.action === 'backup') {
        const source = 'source' in intent ? intent.source : undefined;
        return listBackupClaims({ source, destination: destinationOf(intent) }, site);
      }
      const to = 'to' in intent ? intent.to : undefined;
      const claims = listBackupClaims({ destination: intent.from }, site);
      return to === undefined ? claims : [...claims, { path: to, root: findRoot(to, site.backups.sources) }];
    },
    listHosts: intent => (intent.action === 'restore' && intent.verify ? listVerifyHosts(intent.verify) : []),
    plan(intent, context, host) {
      if (intent.action === 'restore') return kind.restore(intent as R, context, host);
      return intent.action === 'drill' ? kind.drill(intent, context, host) : kind.backup(intent as B, context, host);
    },
    restoreByHand: manifest => kind.restoreByHand(manifest),
  });
}

/** Returns the folder of its backups; a path inside a container as `container:path`. */
function destinationOf(intent: DatabaseBackupIntent): string | undefined {
  if (!('destination_path' in intent) || intent.destination !== undefined) return intent.destination;
  const { destination_container: container, destination_path: path } = intent;
  return container === undefined ? path : `${container}:${path}`;
}
