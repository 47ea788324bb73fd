import { z } from 'zod';
import { BackupTarget, hasOneSource, hasWholeSource, ONE_SOURCE, sharedBackupFields, WHOLE_SOURCE } from './backup.ts';
import { AbsolutePath, Container } from './fields.ts';

/** The name of a database: clients can't read it as a connection string or an option. */
export const DatabaseName = z
  .string()
  .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$/, 'Expected a database’s name: letters, digits, "_", "." and "-"');

/** Plex's database. The copy is consistent also while Plex runs. */
export const PlexBackup = z
  .strictObject({
    ...sharedBackupFields,
    database_type: z.literal('plex'),
    source_container: Container.describe('The container in which Plex runs.'),
    source_path: AbsolutePath.optional().describe(
      'The database’s folder inside the container, or its file. Default: the folder of the usual images.',
    ),
    destination: BackupTarget.optional().describe('The folder that receives the archive.'),
    destination_container: Container.optional(),
    destination_path: AbsolutePath.optional().describe('The folder that receives the archive, without "destination".'),
    method: z
      .enum(['online', 'stop'])
      .optional()
      .describe(
        'online (the default): Plex’s own SQLite makes the copy while Plex runs; stop: Plex is stopped during the copy.',
      ),
    compress: z.enum(['zstd', 'gzip']).optional().describe('zstd (the default) or gzip.'),
  })
  .refine(intent => intent.destination !== undefined || intent.destination_path !== undefined, {
    error: 'Expected "destination" or "destination_path"',
    path: ['destination'],
  })
  .describe('A consistent copy of Plex’s database.');

/** A SQLite database. The copy is consistent also during writes. */
export const SqliteBackup = z
  .strictObject({
    ...sharedBackupFields,
    database_type: z.literal('sqlite'),
    source: AbsolutePath.optional().describe('The database’s file, on the host.'),
    source_container: Container.optional().describe('The container that holds the file, with source_path.'),
    source_path: AbsolutePath.optional().describe('The database’s file inside source_container.'),
    destination: BackupTarget.describe('The folder that receives the backups.'),
  })
  .refine(hasOneSource, ONE_SOURCE)
  .refine(hasWholeSource, WHOLE_SOURCE)
  .describe('A consistent copy of a SQLite database.');

const server = {
  source_container: Container.optional().describe(
    'The container in which the server runs. The agent uses its own programs.',
  ),
  source: AbsolutePath.optional().describe('The folder of the server’s socket, for a server on the host itself.'),
  database: DatabaseName.describe('The database.'),
  user: DatabaseName.optional().describe(
    'The user of the connection. Default: the superuser of the server, from the environment of its container.',
  ),
};

const dump = {
  ...sharedBackupFields,
  ...server,
  destination: BackupTarget.describe('The folder that receives the backups.'),
  verify_level: z
    .enum(['read', 'drill'])
    .optional()
    .describe(
      'read (the default) decodes the whole dump; drill also loads it into a temporary server of the same image before the backup counts as verified.',
    ),
};

const serverFields = {
  error: 'Expected either "source_container" or "source"',
  path: ['source_container'],
};
const hasServer = (intent: { source?: string | undefined; source_container?: string | undefined }) =>
  (intent.source === undefined) !== (intent.source_container === undefined);
const drillsInContainer = (intent: { verify_level?: string | undefined; source?: string | undefined }) =>
  intent.verify_level !== 'drill' || intent.source === undefined;
const drills = { error: 'Expected "source_container" with verify_level: drill', path: ['verify_level'] };

/** A PostgreSQL database. */
export const PostgresBackup = z
  .strictObject({ ...dump, database_type: z.literal('postgres') })
  .refine(hasServer, serverFields)
  .refine(drillsInContainer, drills)
  .describe('A dump of a PostgreSQL database.');

/** A MySQL or MariaDB database. */
export const MysqlBackup = z
  .strictObject({
    ...dump,
    database_type: z.enum(['mysql', 'mariadb']),
    compress: z.enum(['zstd', 'gzip', '0']).optional().describe('zstd (the default), gzip, or "0" for no compression.'),
  })
  .refine(hasServer, serverFields)
  .refine(drillsInContainer, drills)
  .describe('A dump of a MySQL or MariaDB database.');
