import { Failure } from '../../plan/failure.ts';
import type { StartStep } from '../../plan/plan.ts';
import type { StepTimeouts } from '../backup/group.ts';

/** Runs the host's sqlite3, which opens `database` read-only. `written`: paths inside the script. Throws Failure `source-missing`. */
export function sqlite3(
  name: string,
  database: string,
  script: string[],
  times: StepTimeouts,
  written: string[],
  more: Partial<StartStep> = {},
): StartStep {
  for (const path of [database, ...written]) checkPath(path);
  return {
    do: 'start',
    name,
    // A user's ~/.sqliterc could add commands.
    argv: ['sqlite3', '-batch', '-bail', '-init', '/dev/null', '-readonly', database, ...script],
    env: { HOME: '/nonexistent', LC_ALL: 'C.UTF-8' },
    ...times,
    repeatable: true,
    failure: {
      code: 'copy-failed',
      remedy:
        'Read the step’s output. For "database is locked" try again; for "file is not a database" name another file. No earlier backup was changed.',
    },
    reasons: [
      {
        says: 'database or disk is full',
        code: 'destination-full',
        remedy: 'Free space at the destination. No earlier backup was changed.',
      },
    ],
    ...more,
  };
}

const CHECK_STATEMENTS: [string, string] = [
  'PRAGMA integrity_check(1);',
  "SELECT 'tables: ' || count(*) FROM sqlite_master WHERE type = 'table';",
];

/** The texts that the output of {@link CHECK_STATEMENTS} must and must not contain. */
const EXPECTED_OUTPUT = { mustSay: ['ok\n', 'tables: '], mustNotSay: ['tables: 0\n'] };

/** Runs SQLite's own check on a copy that no process writes to. */
export function planCopyCheck(copy: string, times: StepTimeouts, name = 'check'): StartStep {
  return sqlite3(name, immutableUri(copy), CHECK_STATEMENTS, times, [], {
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
