import type { HostReader, StartStep, Step } from '../../plan/plan.ts';
import { planBackupCheck } from '../backup/database-server.ts';
import { type EarlierBackup, findBackup, parseTimeouts, selectBackup } from '../backup/group.ts';
import type { PlanContext } from '../executor.ts';
import { PROGRESS } from './copy.ts';
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
  /** Folder of the manifest. */
  folder: string;
}

/** Plans the check and the copy of a backup. Throws Failure: `backup-unknown`, `destination-not-allowed`, `remote-unreachable`. */
export async function planFetch(
  fields: FetchFields,
  name: string,
  next: string,
  { site, run }: PlanContext,
  host: HostReader,
): Promise<FetchedBackup> {
  const times = parseTimeouts(fields);
  const remote = findRemote(fields.from, site);
  if (remote) {
    const folder = recordsFolder(remote, name, site);
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
      folder,
      check: [
        rsyncCall(
          'fetch its manifest',
          [...rsyncConnectionArgs(remote), '--times', '--mkpath', '--', manifest, `${folder}/`],
          times,
        ),
        { ...check, name: 'list the backup' },
        { do: 'tally', name: 'check the backup', list, folder, as: backup.name, archive: remoteFolder },
      ],
      copy: rsyncCall('copy', [...rsyncConnectionArgs(remote), ...COPY, '--', `${remoteFolder}/`, `${next}/`], times),
    };
  }
  const folder = `${fields.from.replace(/\/+$/, '')}/${name}`;
  const backup = await findBackup({ name, at: fields.at }, folder, ['docker_volumes'], host);
  if (backup.snapshot !== undefined) {
    return {
      backup,
      folder,
      check: [],
      // restic checks each blob by its digest during the restore, and then the files.
      copy: restic('copy', folder, ['restore', backup.snapshot, '--target', next, '--verify'], site, times, {
        failure: {
          code: 'backup-broken',
          remedy: `See "restic check", and restore another backup ("at"). ${UNCHANGED}`,
        },
      }),
    };
  }
  return {
    backup,
    folder,
    check: [planBackupCheck(folder, backup.name)],
    copy: rsyncCall('copy', [...COPY, '--', `${folder}/${backup.name}/`, `${next}/`], times),
  };
}

const UNCHANGED = 'Nothing was changed.';
const COPY = ['--archive', '--hard-links', '--numeric-ids', ...PROGRESS];

function rsyncCall(name: string, args: string[], times: ReturnType<typeof parseTimeouts>): StartStep {
  return {
    ...rsync(name, args, times, { remedy: 'Read the step’s output.', state: UNCHANGED }),
    okAtLast: [],
  };
}
