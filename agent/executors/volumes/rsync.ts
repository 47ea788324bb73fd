import type { Milliseconds, OpenedPath, StartStep } from '../../plan/plan.ts';

/** Endings of files that must not vanish during a copy: a database was at work, so the copy is useless. */
const DATABASES = ['.db"', '.db-wal"', '.sqlite"', '.sqlite3"', '.ibd"', '-wal"', '.frm"', '.wt"'];

/**
 * Plans a call of rsync. A clean environment keeps a user's ~/.popt from adding an option, and variables from adding a
 * program. `state` describes the backups if the call fails.
 */
export function rsync(
  name: string,
  args: string[],
  times: { timeout: Milliseconds; stallTimeout: Milliseconds },
  { remedy, state, opens = [] }: { remedy: string; state: string; opens?: OpenedPath[] },
): StartStep {
  const advise = (advice: string) => `${advice} ${state}`.trim();
  return {
    do: 'start',
    name,
    argv: ['rsync', ...args],
    env: { HOME: '/nonexistent', LC_ALL: 'C.UTF-8', TZ: 'UTC' },
    ...times,
    opens,
    repeatable: true,
    redraws: true,
    retry: [
      // Exit code 24: files vanished during the copy. A second run copies the rest.
      { on: ['(code 24)'], times: 1, pause: 2_000 },
      { on: ['(code 10)', '(code 12)', '(code 30)', '(code 35)', '(code 255)'], times: 3, pause: 5_000 },
    ],
    okAtLast: [24],
    fatal: [{ begins: 'file has vanished:', ends: DATABASES }],
    warnings: ['file has vanished:'],
    failure: { code: 'copy-failed', remedy: advise(remedy) },
    reasons: [
      {
        says: 'No space left on device',
        code: 'destination-full',
        remedy: advise('Free space at the destination.'),
      },
      {
        exit: [23],
        says: 'Operation not permitted',
        code: 'copy-failed',
        remedy: advise(
          'The share does not let the agent set owners (it squashes root). Set ownership: drop or ownership: fake_super, or export the share with no_root_squash.',
        ),
      },
      {
        exit: [23],
        says: 'Permission denied',
        code: 'copy-failed',
        remedy: advise('Let the agent’s user read the files that the output names.'),
      },
      {
        exit: [25],
        code: 'mass-deletion',
        remedy: advise(
          'The source has lost more files than one run may delete from the mirror. Check that the source is complete; if it is, set accept_shrink: true.',
        ),
      },
      {
        exit: [10, 12, 30, 35, 255],
        code: 'remote-unreachable',
        remedy: advise(
          'The other host did not answer or closed the connection, also on retries. Check the network, its rsync or ssh, and its free space.',
        ),
      },
      {
        exit: [5],
        code: 'remote-refused',
        remedy: advise('The other host refuses the agent, or has no such module. Check backups.remotes in agent.yaml.'),
      },
    ],
  };
}
