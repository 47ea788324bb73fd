import type { HostReader, OpenedPath, Plan, StartStep } from '../../plan/plan.ts';
import { findContainer, findSource, timestampOf } from '../backup/group.ts';
import { openNew, readsFrom, SCRATCH_RESERVE } from '../backup/opened.ts';
import { planRestore } from '../backup/restore.ts';
import { planSwap, SQLITE_SIDE_FILES } from '../backup/swap.ts';
import type { Intent, PlanContext } from '../executor.ts';
import {
  archivedDatabases,
  findPlex,
  planDatabaseChecks,
  planRemoval,
  planUnpack,
  plexStep,
  shortName,
} from './archive.ts';

export type PlexRestore = Extract<Intent, { action: 'restore'; of: { kind: 'plex' } }>;

/**
 * Checks the databases, copies them next to the current ones, and exchanges them while Plex is stopped. Preferences.xml stays
 * as it is: it identifies the server. Throws Failure: `backup-unknown`, `overwrite-unconfirmed`, `container-missing`,
 * `container-path-unknown`.
 */
export function planPlexRestore(intent: PlexRestore, context: PlanContext, host: HostReader): Promise<Plan> {
  const { site, run, at } = context;
  const name = intent.to_container;
  return planRestore(intent, context, host, {
    kind: 'plex',
    find: () => ({
      container: name,
      overwrites: {
        message: 'The restore would replace Plex’s databases. Nothing was changed.',
        remedy: 'Set confirm_overwrite: true in the intent. The current databases are kept next to the new ones.',
      },
    }),
    async plan(_, { backup, path: archive }, times) {
      const container = await findContainer(name, host);
      const plex = await findPlex(container, name, intent.to_path, site, host);
      const subfolder = plex?.folder ?? intent.to_path ?? '/config';
      const source = { source_container: name, source_path: subfolder };
      const { path: folder, root } = await findSource(source, site, host);
      const scratch = `${site.backups.records}/restore-${run}`;
      const failure = { code: 'copy-failed', remedy: 'Read the step’s output. Plex’s databases are unchanged.' };
      const step = (name: string, argv: [string, ...string[]], more: Partial<StartStep>): StartStep =>
        plexStep(name, argv, times, { failure, ...more });
      const target: OpenedPath = { path: folder, root, as: 'folder' };
      const archived = archivedDatabases(backup);
      const databases = archived.databases.map(database => {
        const short = shortName(database);
        const copyStep = `put ${short}`;
        const exchange = planSwap(
          `${folder}/${database}`,
          { copyStep, label: short, sides: SQLITE_SIDE_FILES },
          context,
        );
        const next: OpenedPath = { path: exchange.next, root, as: 'file' };
        const copy = [
          step(copyStep, ['cat'], {
            ...readsFrom(`${scratch}/${database}`, site),
            ...{ stdoutTo: exchange.next, stdoutLimit: { free: SCRATCH_RESERVE } },
            opens: [openNew(scratch, site.backups.records), target],
          }),
          // The folder's owner: the current file may be missing.
          step(`owner of ${short}`, ['chown', '--reference', folder, '--', exchange.next], { opens: [target, next] }),
          step(`mode of ${short}`, ['chmod', '0644', '--', exchange.next], { opens: [next] }),
        ];
        return { copy, ...exchange };
      });
      return {
        target: `Plex in ${name}`,
        subject: `${name}:${subfolder}`,
        kept: `the current databases are kept next to it, ending in .before-${timestampOf(at)}`,
        prepare: [
          planUnpack(archive, scratch, site, times),
          ...planDatabaseChecks(archived, scratch, site, times),
          ...databases.flatMap(({ copy }) => copy),
        ],
        swap: databases.map(({ swap }) => swap),
        changesFrom: databases[0]?.swap.name ?? 'swap ',
        rollback: databases.map(({ rollback }) => rollback),
        cleanup: [
          ...databases.map(({ cleanup }) => cleanup),
          planRemoval('clear away', scratch, site.backups.records, 'unpack'),
        ],
      };
    },
  });
}
