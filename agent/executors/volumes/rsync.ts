import type { Milliseconds, StartStep } from '../../plan/plan.ts';

/** Files whose loss in the middle of a copy makes the copy worthless: a database was at work. */
const DATABASES = ['.db"', '.db-wal"', '.sqlite"', '.sqlite3"', '.ibd"', '-wal"', '.frm"', '.wt"'];

/** What every call of rsync shares: no user's ~/.popt may add an option, and no variable a program. */
export function rsync(
  name: string,
  args: string[],
  times: { timeout: Milliseconds; stallTimeout: Milliseconds },
  remedy: string,
): StartStep {
  const untouched = 'The earlier backups are untouched.';
  return {
    do: 'start',
    name,
    argv: ['rsync', ...args],
    env: { HOME: '/nonexistent', LC_ALL: 'C.UTF-8', TZ: 'UTC' },
    ...times,
    repeatable: true,
    redraws: true,
    retry: [
      // 24: files that vanished meanwhile; once more finds the rest.
      { on: ['(code 24)'], times: 1, pause: 2_000 },
      { on: ['(code 10)', '(code 12)', '(code 30)', '(code 35)', '(code 255)'], times: 3, pause: 5_000 },
    ],
    okAtLast: [24],
    fatal: [{ begins: 'file has vanished:', ends: DATABASES }],
    warnings: ['file has vanished:'],
    failure: { code: 'copy-failed', remedy },
    reasons: [
      {
        says: 'No space left on device',
        code: 'destination-full',
        remedy: `Make room at the destination. ${untouched}`,
      },
      {
        exit: [23],
        says: 'Operation not permitted',
        code: 'copy-failed',
        remedy: `The share does not let owners be set (it squashes root): say ownership: drop or ownership: fake_super, or export it with no_root_squash. ${untouched}`,
      },
      {
        exit: [23],
        says: 'Permission denied',
        code: 'copy-failed',
        remedy: `Let the agent's user read what the output names. ${untouched}`,
      },
      {
        exit: [25],
        code: 'mass-deletion',
        remedy: `The mirror would lose more files than are let go at once. Look whether the source is whole; if it is meant, say accept_shrink: true. ${untouched}`,
      },
      {
        exit: [10, 12, 30, 35, 255],
        code: 'remote-unreachable',
        remedy: `The other host did not answer, or broke off, also when tried again. Look at the network, at its rsync or ssh, and at its room. ${untouched}`,
      },
      {
        exit: [5],
        code: 'remote-refused',
        remedy: `The other host does not let the agent in, or has no such module. See backups.remotes in agent.yaml. ${untouched}`,
      },
    ],
  };
}
