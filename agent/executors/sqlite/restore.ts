import type { HostReader, Plan, StartStep } from '../../plan/plan.ts';
import { findSource } from '../backup/group.ts';
import { copiesFile, parentOf, readsFrom } from '../backup/opened.ts';
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
      const target = await findSource(
        { source: to, source_container: to_container, source_path: to_path },
        context.site,
        host,
      );
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
    plan({ path, root, label, overwrites }, { backup, path: stored }, times) {
      const { next, aside, swap, rollback, cleanup } = planSwap(
        path,
        { copyStep: 'copy', sides: SQLITE_SIDE_FILES },
        context,
      );
      const copy: StartStep = {
        do: 'start',
        name: 'copy',
        ...copiesFile(readsFrom(`${stored}/${backup.file ?? ''}`, context.site), {
          stdoutTo: next,
          stdoutLimit: { size: backup.bytes },
          opens: [{ path: parentOf(next), root, as: 'folder' }],
        }),
        ...times,
        repeatable: true,
        failure: { code: 'copy-failed', remedy: `Read the step’s output. ${label} is unchanged.` },
      };
      // The new file gets the owner and the mode of the old one.
      const ownership = overwrites
        ? [
            planOwnership('owner', ['chown', '--reference', path, '--', next], [path, next], root),
            planOwnership('mode', ['chmod', '--reference', path, '--', next], [path, next], root),
          ]
        : [planOwnership('mode', ['chmod', '0644', '--', next], [next], root)];
      return {
        target: label,
        subject: label,
        kept: overwrites ? `the current data is kept as ${aside}` : '',
        prepare: [copy, planCopyCheck({ path: next, root }, times), ...ownership],
        swap: [swap],
        changesFrom: swap.name,
        rollback: [rollback],
        cleanup: [cleanup],
      };
    },
  });
}

function planOwnership(name: string, argv: [string, ...string[]], files: string[], root: string): StartStep {
  const failure = { code: 'copy-failed', remedy: 'Allow the agent’s user to set owners and modes there.' };
  const opens = files.map(path => ({ path, root, as: 'file' as const }));
  return { do: 'start', name, argv, opens, timeout: 60_000, repeatable: true, failure };
}
