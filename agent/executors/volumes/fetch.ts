import type { HostReader, OpenedPath, StartStep, Step } from '../../plan/plan.ts';
import { planBackupCheck } from '../backup/database-server.ts';
import { type EarlierBackup, findBackup, parseTimeouts, selectBackup } from '../backup/group.ts';
import { openStored, storageRoot } from '../backup/opened.ts';
import type { PlanContext } from '../executor.ts';
import { PROGRESS, SKIP_DEVICES } from './copy.ts';
import { findRemote, listRemoteBackups, planListing, recordsFolder, rsyncConnectionArgs } from './remote.ts';
import { restic } from './restic.ts';
import { rsync } from './rsync.ts';

interface FetchFields {
  from: string;
  at?: string | undefined;
  timeout?: string | undefined;
  stall_timeout?: string | undefined;
}

/** A backup of docker_volumes on any destination: the steps that check it against its manifest, and copy it into `next`. */
export interface FetchedBackup {
  backup: EarlierBackup;
  check: Step[];
  copy: StartStep;
  /** Folder of the manifest, and the trusted folder that holds it. */
  folder: string;
  root: string;
}

/** Plans the check and the copy of a backup. Throws Failure: `backup-unknown`, `destination-not-allowed`, `remote-unreachable`. */
export async function planFetch(
  fields: FetchFields,
  name: string,
  next: OpenedPath,
  { site, run }: PlanContext,
  host: HostReader,
): Promise<FetchedBackup> {
  const times = parseTimeouts(fields);
  const remote = findRemote(fields.from, site);
  const opens = [next];
  if (remote) {
    const [folder, root] = [recordsFolder(remote, name, site), site.backups.records];
    const { earlier } = await listRemoteBackups(remote, name, site, host);
    const backup = selectBackup(earlier, fields.at, `${remote.path}/${name}`);
    const list = `${folder}/.${backup.name}.list.${run}`;
    const remoteFolder = `${remote.path}/${name}/${backup.name}`;
    const [check, manifest] = [
      planListing(remote, `${name}/${backup.name}`, list, site, times, UNCHANGED),
      `${remoteFolder}.json`,
    ];
    return {
      backup,
      ...{ folder, root },
      check: [
        rsyncCall(
          'fetch its manifest',
          [...rsyncConnectionArgs(remote), '--times', '--mkpath', '--', manifest, `${folder}/`],
          times,
          [],
        ),
        { ...check, name: 'list the backup' },
        { do: 'tally', name: 'check the backup', list, folder, root, as: backup.name, archive: remoteFolder },
      ],
      copy: rsyncCall(
        'copy',
        [...rsyncConnectionArgs(remote), ...COPY, '--', `${remoteFolder}/`, `${next.path}/`],
        times,
        opens,
      ),
    };
  }
  const folder = `${fields.from.replace(/\/+$/, '')}/${name}`;
  const root = storageRoot(folder, site);
  const backup = await findBackup({ name, at: fields.at }, folder, ['docker_volumes'], host);
  if (backup.snapshot !== undefined) {
    return {
      backup,
      ...{ folder, root },
      check: [],
      // restic checks each blob by its digest during the restore, and then the files.
      copy: restic('copy', folder, ['restore', backup.snapshot, '--target', next.path, '--verify'], site, times, {
        opens,
        failure: {
          code: 'backup-broken',
          remedy: `See "restic check", and restore another backup ("at"). ${UNCHANGED}`,
        },
      }),
    };
  }
  const stored = `${folder}/${backup.name}`;
  return {
    backup,
    ...{ folder, root },
    check: [planBackupCheck(folder, root, backup.name)],
    copy: rsyncCall('copy', [...COPY, '--', `${stored}/`, `${next.path}/`], times, [
      openStored(stored, root),
      ...opens,
    ]),
  };
}

const UNCHANGED = 'Nothing was changed.';
const COPY = ['--archive', '--hard-links', '--numeric-ids', ...SKIP_DEVICES, ...PROGRESS];

function rsyncCall(
  name: string,
  args: string[],
  times: ReturnType<typeof parseTimeouts>,
  opens: OpenedPath[],
): StartStep {
  return {
    ...rsync(name, args, times, { remedy: 'Read the step’s output.', state: UNCHANGED, opens }),
    okAtLast: [],
  };
}
