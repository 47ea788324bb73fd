import type { ContainerDetails } from '../../plan/containers.ts';
import type { ClearStep, HostReader, StartStep } from '../../plan/plan.ts';
import { UNKNOWN_IMAGE } from '../backup/drill.ts';
import type { EarlierBackup, StepTimeouts } from '../backup/group.ts';
import { readsFrom, trimSlashes } from '../backup/opened.ts';
import type { HostSite } from '../executor.ts';

/** Plex's own build of sqlite3: other builds lack its collations and tokenizers. */
const SQLITE_PATHS = ['/usr/lib/plexmediaserver/Plex SQLite', '/app/usr/lib/plexmediaserver/Plex SQLite'] as const;
const SUPPORT = 'Plug-in Support/Databases';
const FOLDERS = [
  `/config/Library/Application Support/Plex Media Server/${SUPPORT}`,
  `/config/Plex Media Server/${SUPPORT}`,
  `/var/lib/plexmediaserver/Library/Application Support/Plex Media Server/${SUPPORT}`,
];
const LIBRARY = 'com.plexapp.plugins.library.db';
const BLOBS = 'com.plexapp.plugins.library.blobs.db';
export const PREFERENCES = 'Preferences.xml';

/** Plex in its container. */
export interface PlexInstall {
  container: string;
  image: string;
  program: string;
  /** The databases' folder, and the databases that are there. */
  folder: string;
  databases: string[];
  /** The folder of Preferences.xml, if there is one. */
  home: string | undefined;
}

/** Looks into the container. If it is stopped, the paths of the usual images are assumed. Returns null if it has no library. */
export async function findPlex(
  container: ContainerDetails | undefined,
  name: string,
  path: string | undefined,
  site: HostSite,
  host: HostReader,
): Promise<PlexInstall | null> {
  const at = container?.Id ?? name;
  const askInside = async (...argv: string[]) => {
    const answer = container?.State.Running ? await host.ask([site.docker, 'exec', at, ...argv]) : undefined;
    return answer && { ok: answer.code === 0, names: answer.stdout.split('\n') };
  };
  const named = path?.endsWith('.db')
    ? path.slice(0, path.lastIndexOf('/'))
    : path === undefined
      ? undefined
      : trimSlashes(path);
  let folder = named ?? FOLDERS[0] ?? '';
  let names: string[] | undefined;
  for (const one of named === undefined ? FOLDERS : [named]) {
    const listed = await askInside('ls', '-a', one);
    if (listed?.ok) [folder, names] = [one, listed.names];
    if (!listed || listed.ok) break;
  }
  if (container?.State.Running && names?.includes(LIBRARY) !== true) return null;
  let program: string = SQLITE_PATHS[0];
  for (const one of SQLITE_PATHS) if ((await askInside('ls', one))?.ok) program = one;
  const home = folder.endsWith(`/${SUPPORT}`) ? folder.slice(0, -SUPPORT.length - 1) : folder;
  const hasPreferences = (await askInside('ls', `${home}/${PREFERENCES}`))?.ok;
  return {
    container: at,
    image: container?.Image ?? UNKNOWN_IMAGE,
    program,
    folder,
    databases: [LIBRARY, ...(names?.includes(BLOBS) ? [BLOBS] : [])],
    home: hasPreferences ? home : undefined,
  };
}

/** Returns the databases of an archive, and the program and image that check them. */
export function archivedDatabases({
  image = UNKNOWN_IMAGE,
  file: program = '',
  parts = [LIBRARY],
}: EarlierBackup): Pick<PlexInstall, 'image' | 'program' | 'databases'> {
  return { image, program, databases: parts.filter(part => part !== PREFERENCES) };
}

const FAILURE = { code: 'copy-failed', remedy: 'Read the step’s output. No earlier backup was changed.' };

export function plexStep(
  name: string,
  argv: [string, ...string[]],
  times: StepTimeouts,
  more: Partial<StartStep> = {},
): StartStep {
  return { do: 'start', name, argv, ...times, repeatable: true, failure: FAILURE, ...more };
}

/** Unpacks an archive into a new folder of the agent. The container that checks it is given its path. */
export function planUnpack(archive: string, into: string, site: HostSite, times: StepTimeouts): StartStep {
  const unpack = archive.endsWith('.gz') ? '--gzip' : '--zstd';
  return plexStep('unpack', ['tar', '--extract', unpack, '--file', '-', `--one-top-level=${into}`], times, {
    ...readsFrom(archive, site),
    failure: { code: 'backup-broken', remedy: 'Check the disk that holds the archive: it could not be unpacked.' },
  });
}

/** Checks each unpacked database by Plex's own SQLite in a scratch container of the same image. */
export function planDatabaseChecks(
  plex: Pick<PlexInstall, 'image' | 'program' | 'databases'>,
  folder: string,
  site: HostSite,
  times: StepTimeouts,
): StartStep[] {
  return plex.databases.map(database =>
    planInScratchContainer(
      `check ${shortName(database)}`,
      plex,
      folder,
      ['-bail', '-readonly', `file:/check/${database}?immutable=1`, ...CHECKS],
      site,
      times,
      {
        mustSay: ['ok\n', 'tables: '],
        mustNotSay: ['tables: 0\n'],
        failure: {
          code: 'backup-broken',
          remedy: `Repair ${database} as Plex's documentation says: SQLite's check fails. No earlier backup was changed.`,
        },
      },
    ),
  );
}

const CHECKS = ['PRAGMA integrity_check(1);', "SELECT 'tables: ' || count(*) FROM sqlite_master WHERE type = 'table';"];

/** Runs Plex's SQLite on a folder of the host, without network and without the server's volumes. */
export function planInScratchContainer(
  name: string,
  { image, program }: Pick<PlexInstall, 'image' | 'program'>,
  folder: string,
  args: string[],
  site: HostSite,
  times: StepTimeouts,
  more: Partial<StartStep> & { writes?: true } = {},
): StartStep {
  const { writes, ...rest } = more;
  const mount = `type=bind,source=${folder},target=/check${writes ? '' : ',readonly'}`;
  const run = ['run', '--rm', '--pull', 'never', '--network', 'none', '--user', '0', '--label', 'chatops=check'];
  return plexStep(name, [site.docker, ...run, '--mount', mount, '--entrypoint', program, image, ...args], times, {
    ...rest,
    reasons: [
      {
        says: 'No such image',
        code: 'image-gone',
        remedy: 'Pull the image that the backup was made with: this host no longer has it.',
      },
    ],
  });
}

/** Returns `library` for `com.plexapp.plugins.library.db`. */
export function shortName(database: string): string {
  return database.replace(/^com\.plexapp\.plugins\./, '').replace(/\.db$/, '');
}

export function planRemoval(name: string, path: string, root: string, ifBegan: string): ClearStep {
  return { do: 'clear', name, path, root, ifBegan };
}
