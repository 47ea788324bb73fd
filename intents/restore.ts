import { z } from 'zod';
import { DatabaseName } from './database.ts';
import { Duration } from './duration.ts';
import { AbsolutePath, Container, commonFields, Service, Stack, Storage } from './fields.ts';
import { Verify } from './verify.ts';

const BackupName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, 'Expected the name of a backup')
  .describe('The backup’s name: its "id", or the name of its file.');
const of = <K extends string>(kind: K) => z.strictObject({ kind: z.literal(kind), name: BackupName });
/** A kind of backup and its name; the name alone means docker_volumes. */
const OfVolumes = z
  .union([BackupName, of('docker_volumes')])
  .describe('The kind and name of the backup. A name alone means docker_volumes.');

const from = z
  .string()
  .min(1)
  .max(1024)
  .regex(/^[^-\s][^\0\r\n]*$/, 'Expected the "destination" of the backup')
  .describe('The "destination" of the backup.');
const at = z
  .string()
  .regex(
    /^(latest|[A-Za-z0-9][A-Za-z0-9.-]{7,63}|\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d))$/,
    'Expected "latest", a time such as "2026-11-21T06:00:00Z", a backup’s name or the id of a run',
  )
  .optional()
  .describe(
    'latest (the default), a time (the newest backup until then), the name of a backup (20261121T060000.000Z), or the id of the run that made it.',
  );
const confirm_overwrite = z
  .boolean()
  .optional()
  .describe(
    'Permits the restore to replace existing data. The agent keeps the old data next to it, see docs/backups.md.',
  );
const sharedRestoreFields = {
  action: z.literal('restore'),
  from,
  at,
  stall_timeout: Duration.optional(),
  ...commonFields,
};
const serviceFields = {
  stack: Stack.optional().describe('The stack of stop_services.'),
  stop_services: z
    .array(Service)
    .min(1)
    .max(100)
    .optional()
    .describe('Services of the stack that are stopped during the restore.'),
  verify: Verify.optional(),
  confirm_overwrite,
};

interface ServiceFields {
  stop_services?: unknown;
  verify?: unknown;
  stack?: unknown;
}
const hasStack = (intent: ServiceFields) =>
  (intent.stop_services === undefined && intent.verify === undefined) || intent.stack !== undefined;
const STACK = { error: 'Expected "stack" together with "stop_services" or "verify"', path: ['stack'] };

const place = {
  to: AbsolutePath.optional().describe('The path on the host that is restored. Or to_container and to_path.'),
  to_container: Container.optional(),
  to_path: AbsolutePath.optional().describe('The path inside to_container.'),
};
interface RestoreDestination {
  to?: string | undefined;
  to_container?: string | undefined;
  to_path?: string | undefined;
}
const hasPlace = (intent: RestoreDestination) => (intent.to === undefined) !== (intent.to_container === undefined);
const PLACE = { error: 'Expected either "to" or "to_container" with "to_path"', path: ['to'] };
const hasWholePlace = (intent: RestoreDestination) =>
  (intent.to_container === undefined) === (intent.to_path === undefined);
const WHOLE_PLACE = { error: '"to_container" and "to_path" belong together', path: ['to_path'] };

/** Restores a folder or volume from a backup. */
const RestoreVolumes = z
  .strictObject({ ...sharedRestoreFields, of: OfVolumes, ...place, ...serviceFields })
  .refine(hasPlace, PLACE)
  .refine(hasWholePlace, WHOLE_PLACE)
  .refine(hasStack, STACK)
  .describe('Restores a folder or volume from a backup of docker_volumes.');

/** Restores the file of a SQLite database. */
const RestoreSqlite = z
  .strictObject({ ...sharedRestoreFields, of: of('sqlite'), ...place, ...serviceFields })
  .refine(hasPlace, PLACE)
  .refine(hasWholePlace, WHOLE_PLACE)
  .refine(hasStack, STACK)
  .describe('Restores a SQLite database.');

/** Restores Plex's databases while Plex is stopped. */
const RestorePlex = z
  .strictObject({
    ...sharedRestoreFields,
    of: of('plex'),
    to_container: Container.describe('The container in which Plex runs. It is stopped during the restore.'),
    to_path: AbsolutePath.optional().describe(
      'The folder of the databases inside it. Default: the folder of the usual images.',
    ),
    ...serviceFields,
  })
  .refine(hasStack, STACK)
  .describe('Restores Plex’s databases.');

const serverFields = {
  to_container: Container.describe('The container in which the server runs.'),
  database: DatabaseName.optional().describe('The database. Default: the one that was backed up.'),
  user: DatabaseName.optional().describe(
    'The user of the connection. Default: the superuser of the server, from the environment of its container.',
  ),
};

/** Loads a dump into a new database, which then takes the old one's name. */
const RestorePostgres = z
  .strictObject({ ...sharedRestoreFields, of: of('postgres'), ...serverFields, ...serviceFields })
  .refine(hasStack, STACK)
  .describe('Restores a PostgreSQL database.');

/** Loads a dump, after a safety copy of the existing database. */
const RestoreMysql = z
  .strictObject({
    ...sharedRestoreFields,
    of: of('mysql'),
    to_container: serverFields.to_container,
    user: serverFields.user,
    ...serviceFields,
  })
  .refine(hasStack, STACK)
  .describe('Restores a MySQL or MariaDB database.');

const VmId = z.int().min(100).max(999_999_999);

/** Creates a new guest from a backup. */
const RestoreVm = z
  .strictObject({
    ...sharedRestoreFields,
    from: Storage.describe('The Proxmox storage that holds the backup.'),
    of: z.strictObject({ kind: z.literal('vm_proxmox'), vm_id: VmId.describe('The guest that was backed up.') }),
    to_vm_id: VmId.describe('The number of the new guest, which must be free.'),
    storage: Storage.describe('The Proxmox storage that receives its disks.'),
  })
  .describe('Creates a new Proxmox guest from a backup.');

export const RESTORES = {
  docker_volumes: RestoreVolumes,
  sqlite: RestoreSqlite,
  plex: RestorePlex,
  postgres: RestorePostgres,
  mysql: RestoreMysql,
  vm_proxmox: RestoreVm,
} as const;

/** Chooses the schema of a restore by the kind of its backup. */
export function restoreSchema(value: Record<string, unknown>) {
  const kind = typeof value.of === 'object' && value.of !== null && 'kind' in value.of ? value.of.kind : undefined;
  return RESTORES[String(kind) as keyof typeof RESTORES] ?? RestoreVolumes;
}

/** Tests a backup: the agent restores it into a temporary folder or container, and measures the time. */
export const Drill = z
  .strictObject({
    action: z.literal('drill'),
    of: z
      .union([
        BackupName,
        z.strictObject({ kind: z.object(RESTORES).omit({ vm_proxmox: true }).keyof(), name: BackupName }),
      ])
      .describe('The kind and name of the backup. A name alone means docker_volumes.'),
    from,
    at,
    stall_timeout: Duration.optional(),
    ...commonFields,
  })
  .describe('Tests that a backup can be restored, in a temporary folder or a container without network.');
export type Drill = z.infer<typeof Drill>;
