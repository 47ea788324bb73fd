import { CannotPlan, type Look, type Plan, type Start } from '../../plan.ts';
import {
  DEFAULT_MIN_KEEP,
  DEFAULT_STALL,
  DEFAULT_TIMEOUT,
  findDestination,
  findEarlier,
  findSource,
  rulesOf,
  stampOf,
  under,
} from '../backups.ts';
import { type Claim, type Context, type Executor, type Intent, parseDuration, type Site } from '../executor.ts';

export type SqliteBackup = Extract<Intent, { action: 'backup'; database_type: 'sqlite' }>;

const CHECK_TIMEOUT = 60 * 60_000;
/** What is left free beside a database that is backed up for the first time. */
const FIRST = 0;

/** SQLite databases, while they are written to: page by page inside one read transaction, then checked. */
export const sqlite: Executor<SqliteBackup> = {
  kind: 'sqlite',
  takes: (intent): intent is SqliteBackup =>
    intent.action === 'backup' && 'database_type' in intent && intent.database_type === 'sqlite',
  subject: intent => `database ${intent.source ?? `${intent.source_container}:${intent.source_path}`}`,
  claims,
  asks: () => [],
  plan,
};

function claims({ source, destination }: SqliteBackup, site: Site): Claim[] {
  const destinations = site.backups.destinations.map(({ path }) => path);
  return [
    ...(source === undefined ? [] : [{ path: source, root: under(source, site.backups.sources) }]),
    ...(destination?.startsWith('/') ? [{ path: destination, root: under(destination, destinations) }] : []),
  ];
}

async function plan(intent: SqliteBackup, { site, run, at, document }: Context, look: Look): Promise<Plan> {
  const source = await findSource(intent, look);
  const { destination, path } = await findDestination(intent, site, look);
  const slash = source.path.lastIndexOf('/');
  const file = source.path.slice(slash + 1);
  const name = intent.id ?? document.name;
  const folder = `${path}/${name}`;
  const earlier = await findEarlier(folder, look);
  const last = earlier.at(-1);
  const as = stampOf(at);
  const partial = `.${as}.partial.${run}`;
  const copy = `${folder}/${partial}/${file}`;
  for (const one of [source.path, copy]) checkPath(one);
  if ((await look.list(source.path.slice(0, slash)))?.includes(file) === false) {
    throw new CannotPlan(
      'source-missing',
      `There is no file ${source.told}.`,
      'Correct the intent: it names the database’s file.',
    );
  }
  const timeout = intent.timeout === undefined ? DEFAULT_TIMEOUT : parseDuration(intent.timeout);
  const failure = {
    code: 'copy-failed',
    remedy:
      'Read the step’s output: "database is locked" wants more time, "file is not a database" another file. The earlier backups are untouched.',
  };
  const sqlite3 = (step: string, database: string, script: string[], more: Partial<Start>): Start => ({
    do: 'start',
    name: step,
    // No ~/.sqliterc of a user may add a command.
    argv: ['sqlite3', '-batch', '-bail', '-init', '/dev/null', '-readonly', database, ...script],
    env: { HOME: '/nonexistent', LC_ALL: 'C.UTF-8' },
    timeout,
    stallTimeout: intent.stall_timeout === undefined ? DEFAULT_STALL : parseDuration(intent.stall_timeout),
    repeatable: true,
    failure,
    ...more,
  });
  return {
    title: `backup of the database ${source.told} to ${folder}`,
    summary: last ? `${earlier.length} earlier, the newest of ${last.bytes} bytes.` : 'The first backup.',
    changes: [{ subject: folder, change: 'write', details: [as] }],
    steps: [
      {
        do: 'check-target',
        name: 'check the destination',
        ...destination,
        needs: Math.ceil((last?.bytes ?? FIRST) * 1.1) + destination.minFree,
        folder: `${folder}/${partial}`,
      },
      // The transaction holds one state still while others write: without it the copy begins anew with each of their commits.
      sqlite3(
        'copy',
        source.path,
        ['.timeout 30000', 'BEGIN;', 'SELECT 1 FROM sqlite_master LIMIT 1;', `.backup '${copy}'`, 'COMMIT;'],
        {},
      ),
      sqlite3(
        'check',
        immutable(copy),
        ['PRAGMA integrity_check(1);', "SELECT 'tables: ' || count(*) FROM sqlite_master WHERE type = 'table';"],
        {
          timeout: Math.max(timeout, CHECK_TIMEOUT),
          mustSay: ['ok', 'tables: '],
          mustNotSay: ['tables: 0'],
          failure: {
            code: 'backup-broken',
            remedy:
              'The copy does not pass SQLite’s own check, or holds no table: look at the database itself. The earlier backups are untouched.',
          },
        },
      ),
      {
        do: 'seal',
        name: 'read back',
        folder,
        partial,
        as,
        manifest: { kind: 'sqlite', name, run, at, source: source.told, notes: intent.notes },
      },
      {
        do: 'prune',
        name: 'prune',
        folder,
        rules: rulesOf(intent.keep, intent.retention_days),
        minKeep: intent.min_keep ?? DEFAULT_MIN_KEEP,
      },
    ],
    undo: [],
    cleanup: [],
  };
}

/** The copy as nobody writes to it any more: no side files appear beside it. */
function immutable(path: string): string {
  return `file:${path.split('/').map(encodeURIComponent).join('/')}?mode=ro&immutable=1`;
}

/** sqlite3 reads paths inside its own commands, where a quote would end them. Throws CannotPlan `source-missing`. */
function checkPath(path: string): void {
  if (!/['"\\\n]/.test(path)) return;
  throw new CannotPlan(
    'source-missing',
    `The path ${JSON.stringify(path)} holds a quote or a backslash, which can't be passed to sqlite3.`,
    'Rename the folder or file.',
  );
}
