import { z } from 'zod';
import { PlexBackup, SqliteBackup, VmBackup, VolumesBackup } from './backup.ts';
import { Restore } from './restore.ts';
import { Rollback } from './rollback.ts';
import { Rollout } from './rollout.ts';
import { Scale } from './scale.ts';

/** What a person asks for: one YAML document. Parsing an intent again gives the same intent. */
export const Intent = z.union([Rollout, Scale, Rollback, Restore, VolumesBackup, VmBackup, PlexBackup, SqliteBackup]);
export type Intent = z.infer<typeof Intent>;
export type { Backup } from './backup.ts';
export type { Restore } from './restore.ts';
export type { Rollback } from './rollback.ts';
export type { Rollout } from './rollout.ts';
export type { Scale } from './scale.ts';

export const ACTIONS = ['rollout', 'scale', 'rollback', 'backup', 'restore'] as const;
export type Action = (typeof ACTIONS)[number];

/** The schema that a value is meant to match, by its `action` and kind, so that errors speak of that verb only. */
export function schemaFor(value: Record<string, unknown>) {
  switch (value.action) {
    case 'rollout':
      return Rollout;
    case 'scale':
      return Scale;
    case 'rollback':
      return Rollback;
    case 'restore':
      return Restore;
    case 'backup':
      if (value.database_type === 'plex') return PlexBackup;
      if (value.database_type === 'sqlite') return SqliteBackup;
      if (value.backup_type === 'docker_volumes') return VolumesBackup;
      if (value.backup_type === 'vm_proxmox') return VmBackup;
  }
  return undefined;
}

/** The one-line text of an intent: `rollout on stack-media`, `backup of VM 101`. */
export function describeIntent(intent: Intent): string {
  if (intent.action === 'restore') return `restore of ${intent.of}`;
  if (intent.action !== 'backup') return `${intent.action} on ${intent.stack}`;
  if ('vm_id' in intent) return `backup of VM ${intent.vm_id}`;
  if ('database_type' in intent && intent.database_type === 'plex')
    return `backup of plex in ${intent.source_container}`;
  return `backup of ${intent.source ?? `${intent.source_container}:${intent.source_path}`}`;
}
