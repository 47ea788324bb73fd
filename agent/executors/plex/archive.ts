import type { ContainerDetails } from '../../plan/containers.ts';
import type { ClearStep, HostReader, Milliseconds, StartStep } from '../../plan/plan.ts';
import type { HostSite } from '../executor.ts';

/** Plex's own build of sqlite3: no other knows its collations and tokenizers. */
const SQLITE_PATHS = ['/usr/lib/plexmediaserver/Plex SQLite', '/app/usr/lib/plexmediaserver/Plex SQLite'] as const;
const SUPPORT = 'Plug-in Support/Databases';
const FOLDERS = [
  `/config/Library/Application Support/Plex Media Server/${SUPPORT}`,
  `/config/Plex Media Server/${SUPPORT}`,
  `/var/lib/plexmediaserver/Library/Application Support/Plex Media Server/${SUPPORT}`,
];
export const LIBRARY = 'com.plexapp.plugins.library.db';
const BLOBS = 'com.plexapp.plugins.library.blobs.db';
export const PREFERENCES = 'Preferences.xml';

export interface StepTimeouts {
  timeout: Milliseconds;
  stallTimeout: Milliseconds;
}

/** What of Plex is in its container. */
export interface PlexInstall {
  container: string;
  image: string;
  program: string;
  /** The databases' folder, and the databases that are there. */
  folder: string;
  databases: string[];
  /** The folder of Preferences.xml, where there is one. */
  home: string | undefined;
}

/** Looks into the container, which runs or has been stopped; what can't be known is what is usual. `null`: there is no library. */
export async function findPlex(
  container: ContainerDetails | undefined,
  name: string,
  path: string | undefined,
  site: HostSite,
  look: HostReader,
): Promise<PlexInstall | null> {
  const at = container?.Id ?? name;
  const inside = async (...argv: string[]) => {
    const answer = container?.State.Running ? await look.ask([site.docker, 'exec', at, ...argv]) : undefined;
    return answer && { ok: answer.code === 0, names: answer.stdout.split('\n') };
  };
  const wanted = path?.endsWith('.db') ? path.slice(0, path.lastIndexOf('/')) : path?.replace(/\/+$/, '');
  let folder = wanted ?? FOLDERS[0] ?? '';
  let names: string[] | undefined;
  for (const one of wanted === undefined ? FOLDERS : [wanted]) {
    const listed = await inside('ls', '-a', one);
    if (listed?.ok) [folder, names] = [one, listed.names];
    if (!listed || listed.ok) break;
  }
  if (container?.State.Running && names?.includes(LIBRARY) !== true) return null;
  let program: string = SQLITE_PATHS[0];
  for (const one of SQLITE_PATHS) if ((await inside('ls', one))?.ok) program = one;
  const up = folder.slice(0, -SUPPORT.length - 1);
  const home = folder.endsWith(`/${SUPPORT}`) ? up : folder;
  const hasPreferences = (await inside('ls', `${home}/${PREFERENCES}`))?.ok;
  return {
    container: at,
    image: container?.Image ?? '(its image)',
    program,
    folder,
    databases: [LIBRARY, ...(names?.includes(BLOBS) ? [BLOBS] : [])],
    home: hasPreferences ? home : undefined,
  };
}

const FAILURE = { code: 'copy-failed', remedy: 'Read the step’s output. The earlier backups are untouched.' };

export function plexStep(
  name: string,
  argv: [string, ...string[]],
  times: StepTimeouts,
  more: Partial<StartStep> = {},
): StartStep {
  return { do: 'start', name, argv, ...times, repeatable: true, failure: FAILURE, ...more };
}

/** Unpacks an archive into a folder that it makes. */
export function planUnpack(archive: string, into: string, times: StepTimeouts): StartStep {
  return plexStep('unpack', ['tar', '--extract', '--file', archive, `--one-top-level=${into}`], times, {
    failure: { code: 'backup-broken', remedy: 'The archive can’t be unpacked: look at the disk that holds it.' },
  });
}

/** Each database, as it came out of the archive, by Plex's own SQLite in a throw-away container of the same image. */
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
          remedy: `${database} does not pass SQLite's own check: see Plex's page on repairing its database. The earlier backups are untouched.`,
        },
      },
    ),
  );
}

const CHECKS = ['PRAGMA integrity_check(1);', "SELECT 'tables: ' || count(*) FROM sqlite_master WHERE type = 'table';"];

/** Plex's SQLite on a folder of the host, without network and without anything of the server. */
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
        remedy: 'The image that the backup was made with is not on this host any more: pull it.',
      },
    ],
  });
}

/** `library` of `com.plexapp.plugins.library.db`. */
export function shortName(database: string): string {
  return database.replace(/^com\.plexapp\.plugins\./, '').replace(/\.db$/, '');
}

export function planRemoval(name: string, path: string, root: string, ifBegan: string): ClearStep {
  return { do: 'clear', name, path, root, ifBegan };
}
