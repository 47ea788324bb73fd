import { Failure } from '../../plan/failure.ts';
import type { StartStep } from '../../plan/plan.ts';
import type { StepTimeouts } from '../backup/group.ts';

/** A database's file, and the trusted folder that holds it. */
export interface DatabaseFile {
  path: string;
  root: string;
}

/**
 * Runs the host's sqlite3, which opens the database read-only. `written`: files inside the script, which must be in a folder of
 * the agent: SQLite opens every file by its path. Throws Failure `source-missing`.
 */
export function sqlite3(
  name: string,
  { path, root }: DatabaseFile,
  { before = [], script, uri = path }: { before?: string[]; script: string[]; uri?: string },
  times: StepTimeouts,
  written: string[],
  more: Partial<StartStep> = {},
): StartStep {
  for (const one of [path, ...written]) checkPath(one);
  const { opens = [], ...rest } = more;
  return {
    do: 'start',
    name,
    // A user's ~/.sqliterc could add commands.
    argv: ['sqlite3', ...OPTIONS, uri, ...before, ...REQUIRE_OPENED, ...script],
    env: { HOME: '/nonexistent', LC_ALL: 'C.UTF-8' },
    ...times,
    opens: [{ path, root, as: 'name' }, ...opens],
    repeatable: true,
    failure: {
      code: 'copy-failed',
      remedy:
        'Read the step’s output. For "database is locked" try again; for "file is not a database" name another file. No earlier backup was changed.',
    },
    reasons: [
      {
        says: 'database or disk is full',
        code: 'disk-full',
        remedy: 'Free space on the disk of state_dir: the copy is checked there first. No earlier backup was changed.',
      },
      {
        says: MOVED,
        code: 'path-outside',
        remedy: 'A folder on the way to the database was exchanged meanwhile. Find out which container does that.',
      },
    ],
    ...rest,
  };
}

const OPTIONS = ['-batch', '-bail', '-init', '/dev/null', '-readonly', '-nofollow'];

const MOVED = 'the database was moved';

/**
 * SQLite resolves the path by itself, and a container may exchange a folder of it for a link at that moment. So it lists the
 * files that it has really opened, which the kernel names without links: the database and its side files must be where they
 * were found. An error ends the script.
 */
const REQUIRE_OPENED: [string, string] = [
  // The first read opens the side files, too.
  'SELECT 1 FROM sqlite_master LIMIT 1;',
  `WITH main AS (SELECT file FROM pragma_database_list WHERE name = 'main'), opened AS (SELECT data FROM fsdir('/proc/self/fd') WHERE data LIKE '/%'), expected AS (SELECT file || column1 AS path FROM main, (VALUES (''), ('-wal'), ('-shm'), ('-journal'))) SELECT json_extract('{}', '${MOVED}') FROM main WHERE file NOT IN (SELECT data FROM opened) OR EXISTS (SELECT 1 FROM opened, expected WHERE data <> path AND replace(data, rtrim(data, replace(data, '/', '')), '') = replace(path, rtrim(path, replace(path, '/', '')), ''));`,
];

const CHECK_STATEMENTS: [string, string] = [
  'PRAGMA integrity_check(1);',
  "SELECT 'tables: ' || count(*) FROM sqlite_master WHERE type = 'table';",
];

/** The texts that the output of {@link CHECK_STATEMENTS} must and must not contain. */
const EXPECTED_OUTPUT = { mustSay: ['ok\n', 'tables: '], mustNotSay: ['tables: 0\n'] };

/** Runs SQLite's own check on a copy that no process writes to. */
export function planCopyCheck(copy: DatabaseFile, times: StepTimeouts, name = 'check'): StartStep {
  return sqlite3(name, copy, { script: CHECK_STATEMENTS, uri: immutableUri(copy.path) }, times, [], {
    ...EXPECTED_OUTPUT,
    failure: {
      code: 'backup-broken',
      remedy:
        'Check the database itself: SQLite’s check of the copy fails, or it holds no table. No earlier backup was changed.',
    },
  });
}

/** Tells SQLite that no process writes to the file: it then makes no side files. */
function immutableUri(path: string): string {
  return `file:${path.split('/').map(encodeURIComponent).join('/')}?mode=ro&immutable=1`;
}

/** Inside sqlite3's own commands a quote would end the path. */
function checkPath(path: string): void {
  if (!/['"\\\n]/.test(path)) return;
  throw new Failure(
    'source-missing',
    `The path ${JSON.stringify(path)} contains a quote or a backslash, which sqlite3 can't take.`,
    'Rename the folder or file.',
  );
}
