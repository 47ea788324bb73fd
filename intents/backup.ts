import { z } from 'zod';
import { Duration } from './duration.ts';
import { AbsolutePath, Container, commonFields, Service, Stack, Storage } from './fields.ts';

const retention_days = z.int().min(1).max(3650).optional().describe('The number of days for which backups are kept.');
const notes = z.string().max(1024).optional().describe('A note that is stored with the backup.');
export const BackupTarget = z
  .string()
  .min(1)
  .max(1024)
  .regex(
    /^[^-\s][^\0\r\n]*$/,
    'Expected a folder, or an rsync target such as "rsync://nas/backup" or "backup@nas:/srv/backup"',
  );
const ExcludePattern = z.string().min(1).max(512);

const Count = z.int().min(0).max(1000).optional();

/** The retention rules of Proxmox: each rule reads what the rules before it left, and keeps the newest backup of each period. */
export const Keep = z
  .strictObject({ last: Count, daily: Count, weekly: Count, monthly: Count, yearly: Count })
  .refine(keep => Object.values(keep).some(count => count !== undefined && count > 0), {
    error: 'Expected at least one number above 0',
  })
  .describe('The number of backups that each rule keeps. Without it and retention_days, all backups are kept.');
export type Keep = z.infer<typeof Keep>;

export const sharedBackupFields = {
  action: z.literal('backup'),
  stack: Stack.optional(),
  retention_days,
  keep: Keep.optional(),
  min_keep: z
    .int()
    .min(1)
    .max(1000)
    .optional()
    .describe('The number of newest verified backups that are always kept. Default: 3.'),
  stall_timeout: Duration.optional().describe(
    'The agent ends a copy that makes no progress for this time. Default: 15m.',
  ),
  lock_wait: Duration.optional().describe(
    'The longest wait for another run on the same resource. Default: until that run ends. A backup of a guest also waits for other backups of its node, by default 3h.',
  ),
  notes,
  ...commonFields,
};

/** The source is a folder or file of the host, or a path inside a container. */
interface SourceFields {
  source?: string | undefined;
  source_container?: string | undefined;
  source_path?: string | undefined;
}
export const hasOneSource = ({ source, source_container }: SourceFields) =>
  (source === undefined) !== (source_container === undefined);
export const ONE_SOURCE = {
  error: 'Expected either "source" or "source_container" with "source_path"',
  path: ['source'],
};
export const hasWholeSource = ({ source_container, source_path }: SourceFields) =>
  (source_container === undefined) === (source_path === undefined);
export const WHOLE_SOURCE = { error: '"source_container" and "source_path" belong together', path: ['source_path'] };

/** A copy of volumes or folders by rsync. */
export const VolumesBackup = z
  .strictObject({
    ...sharedBackupFields,
    backup_type: z.literal('docker_volumes'),
    source: AbsolutePath.optional().describe('The folder to back up, on the host.'),
    source_container: Container.optional().describe('The container whose path is backed up, with source_path.'),
    source_path: AbsolutePath.optional().describe('The path inside source_container.'),
    destination: BackupTarget.optional().describe('The target: a mounted folder, an rsync daemon or an ssh target.'),
    destination_container: Container.optional().describe(
      'The container that receives the copy, with destination_path.',
    ),
    destination_path: AbsolutePath.optional().describe('The path inside destination_container.'),
    exclude: z.array(ExcludePattern).max(100).optional().describe('Patterns of files that are not copied.'),
    options: z
      .array(z.string().max(128))
      .max(20)
      .optional()
      .describe('rsync options, from the allow-list in docs/backups.md.'),
    method: z
      .enum(['snapshots', 'mirror', 'restic'])
      .optional()
      .describe(
        'snapshots (the default): a new folder each time, in which unchanged files are shared; mirror: one folder that equals the source; restic: an encrypted repository.',
      ),
    verify_level: z
      .enum(['read', 'compare', 'full'])
      .optional()
      .describe(
        'read (the default) reads the copy back; compare also compares it with the source, byte by byte; full makes restic read its whole repository.',
      ),
    consistency: z
      .enum(['live', 'pause', 'stop'])
      .optional()
      .describe(
        'The state of source_container and stop_services during the backup. Default: live, or stop with stop_services.',
      ),
    stop_services: z
      .array(Service)
      .min(1)
      .max(100)
      .optional()
      .describe(
        'Services of the stack that are stopped (or paused) during the backup. Those that ran are started again.',
      ),
    ownership: z
      .enum(['keep', 'drop', 'fake_super'])
      .optional()
      .describe(
        'Owners of the copies: kept (the default), dropped, or stored in extended attributes, for a share that squashes root.',
      ),
    accept_shrink: z
      .boolean()
      .optional()
      .describe('Accepts a source that has lost more than half of its data since the last backup.'),
  })
  .refine(intent => intent.stop_services === undefined || intent.stack !== undefined, {
    error: 'Expected "stack" together with "stop_services"',
    path: ['stop_services'],
  })
  .refine(intent => intent.method !== 'mirror' || (intent.keep === undefined && intent.retention_days === undefined), {
    error: 'Expected neither "keep" nor "retention_days" with method: mirror, which has one copy only',
    path: ['method'],
  })
  .refine(
    intent =>
      intent.verify_level !== 'compare' || (intent.consistency ?? (intent.stop_services && 'stop')) !== undefined,
    {
      error:
        'Expected "consistency" or "stop_services" with verify_level: compare, because files in use differ from their copies',
      path: ['verify_level'],
    },
  )
  .refine(intent => (intent.verify_level === 'full') <= (intent.method === 'restic'), {
    error: 'Expected method: restic with verify_level: full',
    path: ['verify_level'],
  })
  .refine(hasOneSource, ONE_SOURCE)
  .refine(hasWholeSource, WHOLE_SOURCE)
  .refine(intent => (intent.destination === undefined) !== (intent.destination_container === undefined), {
    error: 'Expected either "destination" or "destination_container" with "destination_path"',
    path: ['destination'],
  })
  .refine(intent => (intent.destination_container === undefined) === (intent.destination_path === undefined), {
    error: '"destination_container" and "destination_path" belong together',
    path: ['destination_path'],
  })
  .describe('A copy of volumes or folders by rsync.');

/** A Proxmox guest, by vzdump. */
export const VmBackup = z
  .strictObject({
    ...sharedBackupFields,
    backup_type: z.literal('vm_proxmox'),
    vm_id: z.int().min(100).max(999_999_999).describe('The guest’s number on the Proxmox host.'),
    storage: Storage.describe('The Proxmox storage that receives the backup.'),
    compress: z.enum(['zstd', 'gzip', 'lzo', '0']).optional().describe('Default: zstd. "0": not compressed.'),
    mode: z
      .enum(['snapshot', 'suspend', 'stop'])
      .optional()
      .describe('snapshot (the default): the guest runs during the backup; suspend and stop interrupt it.'),
    verify_level: z
      .enum(['archive', 'listed'])
      .optional()
      .describe(
        'archive (the default) reads the archive back; listed trusts the log of vzdump and the list of the storage.',
      ),
    expected_node: Storage.optional().describe('The node on which the guest must run.'),
  })
  .describe('A backup of a Proxmox guest, by vzdump.');
