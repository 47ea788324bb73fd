import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, StartStep } from '../../plan/plan.ts';
import {
  type BackupGroup,
  type EarlierBackup,
  findEarlier,
  findSource,
  listBackupChanges,
  parseTimeouts,
  planPrune,
  readVersion,
  summarizeGroup,
  timestampOf,
} from '../backup/group.ts';
import { openSource } from '../backup/opened.ts';
import { planQuiesce } from '../backup/quiesce.ts';
import type { BackupRemote, HostSite, PlanContext } from '../executor.ts';
import { copyOptions, describeEarlier, PROGRESS, planSourceCheck, type VolumesBackupIntent } from './copy.ts';
import { rsync } from './rsync.ts';

const MINUTE = 60_000;
const REMOTE_TIMEOUT = { timeout: 10 * MINUTE, stallTimeout: 5 * MINUTE };
const MANIFEST = /(\d{8}T\d{6}\.\d{3}Z)\.json$/;
const FOLDER = /^d.* (\d{8}T\d{6}\.\d{3}Z)$/;

/** Age after which an unfinished copy is deleted, in milliseconds. */
const ABANDONED = 48 * 60 * MINUTE;

/** A folder for backups on another host, and how rsync connects to it. */
export interface RsyncRemote {
  remote: BackupRemote;
  /** The destination of the intent, without a slash at its end. */
  path: string;
}

/** Returns the remote that contains the destination; undefined for a folder of this host. Throws Failure `destination-not-allowed`. */
export function findRemote(destination: string | undefined, site: HostSite): RsyncRemote | undefined {
  if (destination === undefined || destination.startsWith('/')) return undefined;
  const path = destination.replace(/\/+$/, '');
  const remote = site.backups.remotes.find(({ target }) => path === target || path.startsWith(`${target}/`));
  if (remote && !path.split('/').includes('..')) return { remote, path };
  throw new Failure(
    'destination-not-allowed',
    `This host does not allow backups to ${destination}.`,
    'Name one of backups.remotes in agent.yaml, or a folder below it.',
  );
}

/** Returns rsync's options for the connection. Only agent.yaml names the key and the known hosts. */
export function rsyncConnectionArgs({ remote }: RsyncRemote): string[] {
  const daemon = remote.target.startsWith('rsync://');
  const { key_file, known_hosts, port } = remote.ssh ?? {};
  const ssh = [
    ...['ssh', '-F', 'none', '-oBatchMode=yes', '-oStrictHostKeyChecking=yes', '-oConnectTimeout=20'],
    ...(key_file === undefined ? [] : ['-i', key_file, '-oIdentitiesOnly=yes']),
    ...(known_hosts === undefined ? [] : [`-oUserKnownHostsFile=${known_hosts}`]),
    ...(port === undefined ? [] : ['-p', String(port)]),
  ];
  const password = remote.password_file === undefined ? [] : [`--password-file=${remote.password_file}`];
  return ['--timeout=300', ...(daemon ? ['--contimeout=20', ...password] : [`--rsh=${ssh.join(' ')}`])];
}

/** Returns the folder of the manifests of backups in a folder on another host. */
export function recordsFolder(
  { path }: Pick<RsyncRemote, 'path'>,
  name: string,
  site: Pick<HostSite, 'backups'>,
): string {
  return `${site.backups.records}/${path.replaceAll(/[^A-Za-z0-9_.-]+/g, '-').replace(/^[.-]+/, '')}/${name}`;
}

/** Lists the backups on the other host (those with a manifest), the oldest first, and the unfinished copies. Sizes are known only for manifests on this host. */
export async function listRemoteBackups(
  remote: RsyncRemote,
  name: string,
  site: HostSite,
  host: HostReader,
): Promise<{ earlier: EarlierBackup[]; unfinished: string[] }> {
  const argv: [string, ...string[]] = [
    'rsync',
    ...rsyncConnectionArgs(remote),
    '--list-only',
    '--',
    `${remote.path}/${name}/`,
  ];
  const answer = await host.ask(argv);
  if (!answer) return { earlier: [], unfinished: [] };
  const missing = answer.code === 23 && answer.stderr.includes('No such file');
  if (answer.code !== 0 && !missing) {
    throw new Failure(
      'remote-unreachable',
      `${remote.path} does not answer: ${answer.stderr.trim().split('\n').slice(0, 3).join(' / ').slice(0, 300)}`,
      'Check the network, and backups.remotes in agent.yaml: the key, the known hosts, the password, the module.',
    );
  }
  const known = await findEarlier(recordsFolder(remote, name, site), host);
  const lines = answer.stdout.split('\n');
  const names = lines.flatMap(line => MANIFEST.exec(line)?.[1] ?? []).sort();
  const unfinished = lines.flatMap(line => FOLDER.exec(line)?.[1] ?? []).filter(stamp => !names.includes(stamp));
  const unknown = (stamp: string): EarlierBackup => ({
    ...{ name: stamp, of: name, kind: 'docker_volumes', run: '', at: toIso(stamp), bytes: 0, files: 0 },
  });
  return { earlier: names.map(stamp => known.find(one => one.name === stamp) ?? unknown(stamp)), unfinished };
}

/** Plans a list of every file with its MD5, which rsync reads on the other host. */
export function planListing(
  remote: RsyncRemote,
  backup: string,
  list: string,
  site: HostSite,
  times: ReturnType<typeof parseTimeouts>,
  state: string,
): StartStep {
  const step = rsync(
    'read back',
    [
      ...rsyncConnectionArgs(remote),
      ...['--recursive', '--links', '--dry-run', '--checksum', '--checksum-choice=md5', '--out-format=%C %l %i %n'],
      ...['--', `${remote.path}/${backup}/`, `${site.backups.records}/none/`],
    ],
    times,
    { remedy: 'The backup can’t be read at the other end. Check its disk.', state },
  );
  return { ...step, stdoutTo: list };
}

export async function planRemote(
  intent: VolumesBackupIntent,
  remote: RsyncRemote,
  context: PlanContext,
  host: HostReader,
): Promise<Plan> {
  const { site, run, at, document } = context;
  if (intent.method !== undefined && intent.method !== 'snapshots') {
    throw new Failure(
      'method-unsupported',
      `method: ${intent.method} writes to a folder of this host.`,
      'Remove "method", or mount the share and name its folder.',
    );
  }
  const options = copyOptions(intent);
  const source = await findSource(intent, site, host);
  const name = intent.id ?? document.name;
  const { earlier, unfinished } = await listRemoteBackups(remote, name, site, host);
  const last = earlier.findLast(one => !one.broken);
  const as = timestampOf(at);
  const folder = recordsFolder(remote, name, site);
  const list = `${folder}/.${as}.list.${run}`;
  const group: BackupGroup = {
    ...{
      destination: { path: remote.path, minFree: 0 },
      folder,
      root: site.backups.records,
      name,
      earlier,
      last,
      newName: as,
    },
    partial: '',
  };
  const services = await planQuiesce(intent, source, site, host);
  const times = parseTimeouts(intent);
  const remoteFolder = `${remote.path}/${name}`;
  const state = describeEarlier(group);
  const call: RsyncCall = (step, args, remedy, stateThen = state) =>
    rsync(step, [...rsyncConnectionArgs(remote), ...args], REMOTE_TIMEOUT, { remedy, state: stateThen });
  const fetch = call(
    'fetch manifests',
    ['--recursive', '--times', '--delete', '--include=/*.json', '--exclude=*', '--', `${remoteFolder}/`, `${folder}/`],
    'Read the step’s output.',
    PUBLISHED,
  );
  const changes = listBackupChanges({ ...group, folder: remoteFolder }, intent, at);
  const version = await readVersion(['rsync'], host);
  return {
    title: `backup of ${source.label} to ${remoteFolder}`,
    summary: `${summarizeGroup(group)} ${services.note}`.trim(),
    changes,
    steps: [
      planRemoteCheck(remote, call),
      // Only a backup with a known size shows that the source has shrunk.
      planSourceCheck(source, site, { last: last && last.files > 0 ? last : undefined }, intent),
      ...services.quiesce,
      rsync(
        'copy',
        [
          ...rsyncConnectionArgs(remote),
          ...options,
          '--mkpath',
          '--partial-dir=.rsync-partial',
          '--filter=- .rsync-partial/',
          ...(last ? [`--link-dest=../${last.name}`] : []),
          ...PROGRESS,
          ...['--', `${source.path}/`, `${remoteFolder}/${as}/`],
        ],
        times,
        {
          remedy: 'Read the step’s output. A copy without a manifest is not a backup.',
          state,
          opens: [openSource(source)],
        },
      ),
      ...services.resume,
      planListing(remote, `${name}/${as}`, list, site, times, state),
      {
        do: 'tally',
        name: 'write the manifest',
        ...{ list, folder, root: site.backups.records, as, archive: `${remoteFolder}/${as}` },
        manifest: {
          kind: 'docker_volumes',
          ...{ name, run, at, source: source.label },
          checks: ['md5 of every file, read at the other end'],
          versions: { rsync: version },
          ...(last ? { parent: last.name } : {}),
          ...(intent.notes === undefined ? {} : { notes: intent.notes }),
        },
      },
      // From here on it is a backup: a copy without a manifest on the other host is not one.
      call(
        'publish',
        ['--times', '--fsync', '--', `${folder}/${as}.json`, `${folder}/RESTORE.md`, `${remoteFolder}/`],
        'The copy exists, but its manifest does not: it is not a backup. Run the intent again.',
      ),
      fetch,
      {
        ...planPrune(group, intent),
        forget: {
          step: call(
            'take away',
            ['--recursive', '--delete', '--force', '--verbose'],
            'Read the step’s output.',
            PUBLISHED,
          ),
          each: ['--include=/{name}.json', '--include=/{name}/', '--include=/{name}/***'],
          last: ['--exclude=*', '--', `${site.backups.records}/none/`, `${remoteFolder}/`],
          empty: `${site.backups.records}/none`,
          also: unfinished.filter(stamp => Date.parse(toIso(stamp)) < Date.parse(at) - ABANDONED),
        },
      },
    ],
    undo: [],
    cleanup: services.cleanup,
  };
}

const PUBLISHED = 'The new backup is published.';

type RsyncCall = (step: string, args: string[], remedy: string, state?: string) => StartStep;

/** Plans the check that the other host answers and has the folder, with the marker file that proves the right disk is mounted. */
function planRemoteCheck({ remote: { target, marker } }: RsyncRemote, call: RsyncCall): StartStep {
  const remedy =
    marker === undefined
      ? 'Create the folder, or correct backups.remotes in agent.yaml.'
      : `Check the file ${marker}: is the right disk mounted at the other end? If it is, create that file.`;
  const step = call('check the destination', ['--list-only', '--', `${target}/${marker ?? ''}`], remedy);
  const code = marker === undefined ? 'destination-missing' : 'destination-unmarked';
  return { ...step, reasons: [{ exit: [23], code, remedy }, ...(step.reasons ?? [])] };
}

/** Converts `20261121T061200.123Z` to `2026-11-21T06:12:00.123Z`. */
function toIso(stamp: string): string {
  return stamp.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)/, '$1-$2-$3T$4:$5:');
}
