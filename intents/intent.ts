import { z } from 'zod';
import { VmBackup, VolumesBackup } from './backup.ts';
import { MysqlBackup, PlexBackup, PostgresBackup, SqliteBackup } from './database.ts';
import { Drill, RESTORES, restoreSchema } from './restore.ts';
import { Rollback } from './rollback.ts';
import { Rollout } from './rollout.ts';
import { Scale } from './scale.ts';

const BACKUPS = {
  docker_volumes: VolumesBackup,
  vm_proxmox: VmBackup,
  plex: PlexBackup,
  sqlite: SqliteBackup,
  postgres: PostgresBackup,
  mysql: MysqlBackup,
  mariadb: MysqlBackup,
} as const;

/** The kinds of backup: a backup's `backup_type` or `database_type`. */
export const BackupKind = z.object(BACKUPS).keyof();
export type BackupKind = z.infer<typeof BackupKind>;

/** An intent: one YAML document. Parsing an intent again returns the same intent. */
export const Intent = z.union([
  Rollout,
  Scale,
  Rollback,
  RESTORES.docker_volumes,
  RESTORES.sqlite,
  RESTORES.plex,
  RESTORES.postgres,
  RESTORES.mysql,
  RESTORES.vm_proxmox,
  Drill,
  VolumesBackup,
  VmBackup,
  PlexBackup,
  SqliteBackup,
  PostgresBackup,
  MysqlBackup,
]);

export type Intent = z.infer<typeof Intent>;

export const ACTIONS = ['rollout', 'scale', 'rollback', 'backup', 'restore', 'drill'] as const;

/** The stack of an intent, or an empty text. */
export function stackOf(intent: object): string {
  return 'stack' in intent && typeof intent.stack === 'string' ? intent.stack : '';
}

/** Chooses the schema of a value by its `action` and kind, so that errors concern this action only. */
export function schemaFor(value: Record<string, unknown>) {
  switch (value.action) {
    case 'rollout':
      return Rollout;
    case 'scale':
      return Scale;
    case 'rollback':
      return Rollback;
    case 'restore':
      return restoreSchema(value);
    case 'drill':
      return Drill;
    case 'backup':
      return BACKUPS[String(value.database_type ?? value.backup_type) as keyof typeof BACKUPS];
  }
  return undefined;
}

/** The kind and name of the backup that a restore or a drill reads. A name alone means docker_volumes. */
export function parseBackupSubject(of: string | { kind: string; name: string }): { kind: string; name: string } {
  return typeof of === 'string' ? { kind: 'docker_volumes', name: of } : of;
}

/** The one-line description of an intent: `rollout on stack-media`, `backup of VM 101`. */
export function describeIntent(intent: Intent): string {
  if (intent.action === 'restore' || intent.action === 'drill') {
    const { of } = intent;
    return `${intent.action} of ${typeof of === 'object' && 'vm_id' in of ? `VM ${of.vm_id}` : parseBackupSubject(of).name}`;
  }
  if (intent.action !== 'backup') return `${intent.action} on ${intent.stack}`;
  if ('vm_id' in intent) return `backup of VM ${intent.vm_id}`;
  if ('database_type' in intent && intent.database_type === 'plex')
    return `backup of plex in ${intent.source_container}`;
  if ('database' in intent) return `backup of ${intent.database} in ${intent.source_container ?? intent.source}`;
  return `backup of ${intent.source ?? `${intent.source_container}:${intent.source_path}`}`;
}
