import type { BackupDescription } from '../plan/backup-manifest.ts';

/** What lies beside the backups for the day on which this product is gone: how to get the data back by hand. */
export function renderRestoreReadme(taken: BackupDescription): string {
  const { kind, name, source } = taken;
  const how = taken.snapshot === undefined ? RESTORE_COMMANDS[kind] : RESTIC;
  return `# How to get "${name}" back by hand

Each backup here is one of \`${source}\` (${kind}) as it was at the time in its name (UTC); the file of the same name with .json tells what it
holds. ${(how ?? RESTORE_COMMANDS.docker_volumes ?? (() => ''))(taken)}
Stop what uses the data first, and start it again afterwards.${taken.snapshot === undefined ? CHECKS[kind === 'plex' ? 'file' : 'folder'] : ''}
`;
}

const RESTORE_COMMANDS: Record<string, (taken: BackupDescription) => string> = {
  docker_volumes: () => `No program but rsync is needed:

    rsync --archive --hard-links --numeric-ids -- <folder>/ <where to>/
`,
  sqlite: ({
    file,
  }) => `Put the file in its place, and remove the old -wal and -shm beside it: they would be played onto it.

    cp -- <folder>/${file} <where to>
    rm -f -- <where to>-wal <where to>-shm
`,
  postgres: ({ file, database }) => `Load the dump into a new database, look at it, and give it the name:

    createdb --template=template0 ${database}_restored
    pg_restore --exit-on-error --dbname=${database}_restored <folder>/${file}

Roles that are missing are in <folder>/globals.sql (without their passwords): psql --dbname=postgres --file=<folder>/globals.sql
`,
  mysql: ({
    file = '',
    database,
  }) => `The dump makes the database ${database} and fills it; what is there under that name is replaced table by table:

    ${file.endsWith('.zst') ? 'zstd' : file.endsWith('.gz') ? 'gzip' : 'cat'}${/\.(zst|gz)$/.test(file) ? ' -dc' : ''} <folder>/${file} > dump.sql
    mariadb --user=root -p < dump.sql

A client older than the server may not know the dump's first line ("enable the sandbox mode"): remove that line.
`,
  plex: () => `Unpack it beside Plex's databases, put the files in their places, and remove the old -wal and -shm beside them:

    tar --extract --file <archive> --directory <empty folder>

The databases belong to Plex's user. Preferences.xml is the server's identity: put it back on the same server only.
`,
};

const RESTIC = () => `They lie in restic's repository; the password is not here.

    restic --repo ./repository snapshots
    restic --repo ./repository restore <the "snapshot" of the .json> --target <where to> --verify
`;

const CHECKS = {
  folder: ` To check a copy, make its digest; it must be the "sha256" of its .json:

    cd <folder> && find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum -- | sha256sum

Or each file of it by the list beside it:

    cd <folder> && sha256sum --check --quiet ../<folder>.sha256`,
  file: ` To check an archive: sha256sum must tell the "sha256" of its .json.`,
};
