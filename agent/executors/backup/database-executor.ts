import { under } from '../../plan/paths.ts';
import type { Look, Plan } from '../../plan/plan.ts';
import { type Context, type Executor, hostsOf, type Intent, subjectOf } from '../executor.ts';
import { claimsOf, shelfLock } from './group.ts';

type Backup = Extract<Intent, { action: 'backup'; database_type: string }>;
type Restore = Extract<Intent, { action: 'restore'; of: { kind: 'sqlite' | 'plex' | 'postgres' | 'mysql' } }>;
type Drill = Extract<Intent, { action: 'drill' }>;
type Planning<I> = (intent: I, context: Context, look: Look) => Promise<Plan>;

/** What makes one kind of database another than the next. */
export interface Kind<B extends Backup, R extends Restore> {
  kind: string;
  /** The `database_type`s that it takes. */
  types: string[];
  /** What is locked while it is backed up or restored. */
  locks(intent: B | R): string;
  backup: Planning<B>;
  restore: Planning<R>;
  drill: Planning<Drill>;
}

/** The executor of a kind of database: backup, restore and drill. */
export function databaseExecutor<B extends Backup, R extends Restore>(of: Kind<B, R>): Executor<B | R | Drill> {
  const isOne = (intent: Intent): intent is B | R | Drill =>
    intent.action === 'restore' || intent.action === 'drill'
      ? typeof intent.of === 'object' && intent.of.kind === of.kind
      : intent.action === 'backup' && 'database_type' in intent && of.types.includes(intent.database_type);
  return {
    kind: of.kind,
    takes: isOne,
    subjects(intent, document) {
      if (intent.action === 'drill') return shelfLock(intent.from, subjectOf(intent.of).name);
      const stack = intent.stack === undefined ? [] : [`stack ${intent.stack}`];
      if (intent.action === 'restore') return [of.locks(intent), ...shelfLock(intent.from, intent.of.name), ...stack];
      return [of.locks(intent), ...shelfLock(placeOf(intent), intent.id ?? document.name), ...stack];
    },
    claims(intent, site) {
      if (intent.action === 'backup') {
        const source = 'source' in intent ? intent.source : undefined;
        return claimsOf({ source, destination: placeOf(intent) }, site);
      }
      const to = 'to' in intent ? intent.to : undefined;
      const claims = claimsOf({ destination: intent.from }, site);
      return to === undefined ? claims : [...claims, { path: to, root: under(to, site.backups.sources) }];
    },
    asks: intent => (intent.action === 'restore' && intent.verify ? hostsOf(intent.verify) : []),
    plan(intent, context, look) {
      if (intent.action === 'restore') return of.restore(intent as R, context, look);
      return intent.action === 'drill' ? of.drill(intent, context, look) : of.backup(intent as B, context, look);
    },
  };
}

/** Where its backups lie; a path inside a container is told as such. */
function placeOf(intent: Backup): string | undefined {
  if (!('destination_path' in intent) || intent.destination !== undefined) return intent.destination;
  const { destination_container: container, destination_path: path } = intent;
  return container === undefined ? path : `${container}:${path}`;
}
