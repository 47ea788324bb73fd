import type { Look, Start, Step } from '../../plan/plan.ts';
import { checkBackup } from '../backup/database-server.ts';
import { chooseBackup, type Earlier, findBackup, timesOf } from '../backup/group.ts';
import type { Context } from '../executor.ts';
import { PROGRESS } from './copy.ts';
import { findAway, findRemote, listing, reach, recordsOf } from './remote.ts';
import { restic } from './restic.ts';
import { rsync } from './rsync.ts';

interface Wish {
  from: string;
  at?: string | undefined;
  timeout?: string | undefined;
  stall_timeout?: string | undefined;
}

/** A backup of docker_volumes, wherever it lies: how it is checked against its manifest, and copied into `next`. */
export interface Fetched {
  backup: Earlier;
  check: Step[];
  copy: Start;
  /** Of the manifest. */
  folder: string;
}

/** Throws CannotPlan: `backup-unknown`, `destination-not-allowed`, `remote-unreachable`. */
export async function fetchBackup(
  wish: Wish,
  name: string,
  next: string,
  { site, run }: Context,
  look: Look,
): Promise<Fetched> {
  const times = timesOf(wish);
  const remote = findRemote(wish.from, site);
  if (remote) {
    const folder = recordsOf(remote, name, site);
    const { earlier } = await findAway(remote, name, site, look);
    const backup = chooseBackup(earlier, wish.at, `${remote.path}/${name}`);
    const list = `${folder}/.${backup.name}.list.${run}`;
    const away = `${remote.path}/${name}/${backup.name}`;
    const [check, manifest] = [listing(remote, `${name}/${backup.name}`, list, site, times), `${away}.json`];
    return {
      backup,
      folder,
      check: [
        call('fetch its manifest', [...reach(remote), '--times', '--mkpath', '--', manifest, `${folder}/`], times),
        { ...check, name: 'list the backup' },
        { do: 'tally', name: 'check the backup', list, folder, as: backup.name, archive: away },
      ],
      copy: call('copy', [...reach(remote), ...COPY, '--', `${away}/`, `${next}/`], times),
    };
  }
  const folder = `${wish.from.replace(/\/+$/, '')}/${name}`;
  const backup = await findBackup({ name, at: wish.at }, folder, ['docker_volumes'], look);
  if (backup.snapshot !== undefined) {
    return {
      backup,
      folder,
      check: [],
      // restic checks each piece by its digest while it restores, and then the files.
      copy: restic('copy', folder, ['restore', backup.snapshot, '--target', next, '--verify'], site, times, {
        failure: {
          code: 'backup-broken',
          remedy: 'Nothing was changed. See "restic check", and restore another one ("at").',
        },
      }),
    };
  }
  return {
    backup,
    folder,
    check: [checkBackup(folder, backup.name)],
    copy: call('copy', [...COPY, '--', `${folder}/${backup.name}/`, `${next}/`], times),
  };
}

const COPY = ['--archive', '--hard-links', '--numeric-ids', ...PROGRESS];

function call(name: string, args: string[], times: ReturnType<typeof timesOf>): Start {
  return { ...rsync(name, args, times, 'Read the step’s output. Nothing was changed.'), okAtLast: [] };
}
