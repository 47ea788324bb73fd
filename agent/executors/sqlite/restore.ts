import type { HostReader, Plan, StartStep } from '../../plan/plan.ts';
import { findSource } from '../backup/group.ts';
import { planRestore } from '../backup/restore.ts';
import { planSwap, SQLITE_SIDE_FILES } from '../backup/swap.ts';
import type { Intent, PlanContext } from '../executor.ts';
import { planCopyCheck } from './sqlite3.ts';

export type SqliteRestore = Extract<Intent, { action: 'restore'; of: { kind: 'sqlite' } }>;

/**
 * Copies the backup next to the database, checks it there, and exchanges the two while the services are stopped. Throws
 * Failure: `backup-unknown`, `overwrite-unconfirmed`, `container-missing`, `container-path-unknown`.
 */
export function planSqliteRestore(intent: SqliteRestore, context: PlanContext, host: HostReader): Promise<Plan> {
  const { to, to_container, to_path } = intent;
  return planRestore(intent, context, host, {
    kind: 'sqlite',
    async find() {
      const target = await findSource({ source: to, source_container: to_container, source_path: to_path }, host);
      const slash = target.path.lastIndexOf('/');
      const exists = (await host.list(target.path.slice(0, slash)))?.includes(target.path.slice(slash + 1)) === true;
      const overwrites = exists
        ? {
            message: `${target.label} exists. Nothing was changed.`,
            remedy:
              'Set confirm_overwrite: true in the intent (the current file is kept next to it), or restore to another file.',
          }
        : undefined;
      return { ...target, overwrites };
    },
    plan({ path, label, overwrites }, { backup, path: stored }, times) {
      const { next, aside, swap, rollback, cleanup } = planSwap(
        path,
        { copyStep: 'copy', sides: SQLITE_SIDE_FILES },
        context,
      );
      const copy: StartStep = {
        do: 'start',
        name: 'copy',
        argv: ['cp', '--no-dereference', '--', `${stored}/${backup.file ?? ''}`, next],
        ...times,
        repeatable: true,
        failure: { code: 'copy-failed', remedy: `Read the step’s output. ${label} is unchanged.` },
      };
      // The new file gets the owner and the mode of the old one.
      const ownership = overwrites
        ? [
            planOwnership('owner', ['chown', `--reference=${path}`, '--', next]),
            planOwnership('mode', ['chmod', `--reference=${path}`, '--', next]),
          ]
        : [];
      return {
        target: label,
        subject: label,
        kept: overwrites ? `the current data is kept as ${aside}` : '',
        prepare: [copy, planCopyCheck(next, times), ...ownership],
        swap: [swap],
        changesFrom: swap.name,
        rollback: [rollback],
        cleanup: [cleanup],
      };
    },
  });
}

function planOwnership(name: string, argv: [string, ...string[]]): StartStep {
  const failure = { code: 'copy-failed', remedy: 'Allow the agent’s user to set owners and modes there.' };
  return { do: 'start', name, argv, timeout: 60_000, repeatable: true, failure };
}
