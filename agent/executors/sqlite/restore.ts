import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, StartStep, Step, SwapStep } from '../../plan/plan.ts';
import { planBackupCheck } from '../backup/database-server.ts';
import { findBackup, findSource, parseTimeouts, timestampOf } from '../backup/group.ts';
import { planQuiesce, planRestartChecks } from '../backup/quiesce.ts';
import type { Intent, PlanContext } from '../executor.ts';
import { planCopyCheck } from './sqlite3.ts';

export type SqliteRestore = Extract<Intent, { action: 'restore'; of: { kind: 'sqlite' } }>;

/** SQLite's own side files: what lies beside another database's file would be played onto it. */
export const SIDE_FILES = ['-wal', '-shm', '-journal'];

/**
 * The copy is put beside the database and checked there; what uses it is stopped, the files change places, and it is started
 * again. Throws Failure: `backup-unknown`, `overwrite-unconfirmed`, `container-missing`, `container-path-unknown`.
 */
export async function planRestore(intent: SqliteRestore, context: PlanContext, look: HostReader): Promise<Plan> {
  const { site, run, at } = context;
  const folder = `${intent.from.replace(/\/+$/, '')}/${intent.of.name}`;
  const backup = await findBackup({ name: intent.of.name, at: intent.at }, folder, ['sqlite'], look);
  const where = { source: intent.to, source_container: intent.to_container, source_path: intent.to_path };
  const { path, told, container } = await findSource(where, look);
  const slash = path.lastIndexOf('/');
  const isThere = (await look.list(path.slice(0, slash)))?.includes(path.slice(slash + 1)) === true;
  if (isThere && intent.confirm_overwrite !== true) {
    throw new Failure(
      'overwrite-unconfirmed',
      `${told} is there. Nothing was changed.`,
      'Say confirm_overwrite: true in the intent (what is there is kept beside), or restore to another file.',
    );
  }
  const next = `${path}.restoring-${run}`;
  const aside = `${path}.before-${timestampOf(at)}`;
  const times = parseTimeouts(intent);
  const holding = { ...intent, consistency: 'stop' as const };
  const still = await planQuiesce(holding, container === undefined ? {} : { container }, site, look);
  const checks = planRestartChecks(intent, still, site);
  const swap: Omit<SwapStep, 'name'> = {
    do: 'swap',
    ...{ path, next, aside, roots: site.backups.sources, sides: SIDE_FILES },
  };
  const put: StartStep = {
    do: 'start',
    name: 'copy',
    argv: ['cp', '--no-dereference', '--', `${folder}/${backup.name}/${backup.file ?? ''}`, next],
    ...times,
    repeatable: true,
    failure: { code: 'copy-failed', remedy: `Read the step’s output. ${told} is as it was.` },
  };
  const own: StartStep[] = isThere
    ? [
        planOwnership('owner', ['chown', `--reference=${path}`, '--', next]),
        planOwnership('mode', ['chmod', `--reference=${path}`, '--', next]),
      ]
    : [];
  const undo: Step[] = [
    ...still.hold.map(step => ({ ...step, name: `${step.name} again` })),
    { ...swap, name: 'swap back', back: true },
    ...still.release.map(step => ({ ...step, name: `${step.name} again` })),
    ...checks(true),
  ];
  return {
    title: `restore of ${intent.of.name} (${backup.name}) to ${told}`,
    summary: `${backup.bytes} bytes of ${backup.at}${isThere ? `; what is there now is kept as ${aside}` : ''}.`,
    changes: [{ subject: told, change: 'write', details: [backup.name] }],
    steps: [
      planBackupCheck(folder, backup.name),
      put,
      planCopyCheck(next, times),
      ...own,
      ...still.hold,
      { ...swap, name: 'swap' },
      ...still.release,
      ...checks(false),
    ],
    undo: intent.on_failure === 'stop' ? [] : undo.map(step => ({ ...step, ifBegan: 'swap' })),
    cleanup: [
      { ...swap, name: 'clear away', back: true, ifBegan: 'copy', unlessBegan: 'swap' },
      ...still.cleanup.map(step => ({ ...step, unlessBegan: still.release[0]?.name ?? '' })),
    ],
  };
}

/** The new file belongs to whom the old one does. */
export function planOwnership(name: string, argv: [string, ...string[]]): StartStep {
  const failure = { code: 'copy-failed', remedy: 'Let the agent’s user set owners and modes there.' };
  return { do: 'start', name, argv, timeout: 60_000, repeatable: true, failure };
}
