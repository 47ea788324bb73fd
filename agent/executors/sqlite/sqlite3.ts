import { Failure } from '../../plan/failure.ts';
import type { Milliseconds, StartStep } from '../../plan/plan.ts';

interface StepTimeouts {
  timeout: Milliseconds;
  stallTimeout: Milliseconds;
}

/** A call of the host's sqlite3 that only reads `database`. `written`: paths inside the script. Throws Failure `source-missing`. */
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
    // No ~/.sqliterc of a user may add a command.
    argv: ['sqlite3', '-batch', '-bail', '-init', '/dev/null', '-readonly', database, ...script],
    env: { HOME: '/nonexistent', LC_ALL: 'C.UTF-8' },
    ...times,
    repeatable: true,
    failure: {
      code: 'copy-failed',
      remedy:
        'Read the step’s output: "database is locked" wants more time, "file is not a database" another file. The earlier backups are untouched.',
    },
    reasons: [
      {
        says: 'database or disk is full',
        code: 'destination-full',
        remedy: 'Make room at the destination. The earlier backups are untouched.',
      },
    ],
    ...more,
  };
}

export const CHECK_STATEMENTS: [string, string] = [
  'PRAGMA integrity_check(1);',
  "SELECT 'tables: ' || count(*) FROM sqlite_master WHERE type = 'table';",
];

/** What the output of {@link CHECK_STATEMENTS} must and must not hold. */
export const EXPECTED_OUTPUT = { mustSay: ['ok\n', 'tables: '], mustNotSay: ['tables: 0\n'] };

/** SQLite's own check of a database to which nobody writes any more. */
export function planCopyCheck(copy: string, times: StepTimeouts, name = 'check'): StartStep {
  return sqlite3(name, immutableUri(copy), CHECK_STATEMENTS, times, [], {
    ...EXPECTED_OUTPUT,
    failure: {
      code: 'backup-broken',
      remedy:
        'The copy does not pass SQLite’s own check, or holds no table: look at the database itself. The earlier backups are untouched.',
    },
  });
}

/** As nobody writes to it: no side files appear beside it. */
function immutableUri(path: string): string {
  return `file:${path.split('/').map(encodeURIComponent).join('/')}?mode=ro&immutable=1`;
}

/** sqlite3 reads paths inside its own commands, where a quote would end them. */
function checkPath(path: string): void {
  if (!/['"\\\n]/.test(path)) return;
  throw new Failure(
    'source-missing',
    `The path ${JSON.stringify(path)} holds a quote or a backslash, which can't be passed to sqlite3.`,
    'Rename the folder or file.',
  );
}
