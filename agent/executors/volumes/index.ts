import { findRoot } from '../../plan/paths.ts';
import { backupGroupLocks, listBackupClaims } from '../backup/group.ts';
import { defineExecutor, listVerifyHosts, parseBackupSubject } from '../executor.ts';
import { planBackup } from './backup.ts';
import type { VolumesBackupIntent } from './copy.ts';
import { planDrill, type VolumesDrill } from './drill.ts';
import { planRestore, type VolumesRestore } from './restore.ts';

type VolumesIntent = VolumesBackupIntent | VolumesRestore | VolumesDrill;

/** Backups of volumes and folders, and their restores: by rsync into a folder of this host (maybe a mounted share) or to another host, or by restic. */
export const volumes = defineExecutor<VolumesIntent>({
  kind: 'volumes',
  supports: (intent): intent is VolumesIntent =>
    intent.action === 'restore' || intent.action === 'drill'
      ? typeof intent.of === 'string' || ('kind' in intent.of && intent.of.kind === 'docker_volumes')
      : intent.action === 'backup' && 'backup_type' in intent && intent.backup_type === 'docker_volumes',
  lockSubjects(intent, document) {
    if (intent.action === 'drill') return backupGroupLocks(intent.from, parseBackupSubject(intent.of).name);
    // A stack whose services are stopped is locked like by a rollout.
    const stack = intent.stack === undefined ? [] : [`stack ${intent.stack}`];
    if (intent.action === 'restore')
      return [
        `folder ${intent.to ?? `${intent.to_container}:${intent.to_path}`}`,
        ...backupGroupLocks(intent.from, parseBackupSubject(intent.of).name),
        ...stack,
      ];
    const { source, source_container, source_path, destination, destination_container, destination_path } = intent;
    return [
      `folder ${source ?? `${source_container}:${source_path}`}`,
      ...backupGroupLocks(destination ?? `${destination_container}:${destination_path}`, intent.id ?? document.name),
      ...stack,
    ];
  },
  claimPaths(intent, site) {
    if (intent.action === 'backup') return listBackupClaims(intent, site);
    const to = intent.action === 'restore' ? intent.to : undefined;
    const claims = listBackupClaims({ destination: intent.from }, site);
    return to === undefined ? claims : [...claims, { path: to, root: findRoot(to, site.backups.sources) }];
  },
  listHosts: intent => (intent.action === 'restore' && intent.verify ? listVerifyHosts(intent.verify) : []),
  plan(intent, context, host) {
    if (intent.action === 'restore') return planRestore(intent, context, host);
    return intent.action === 'drill' ? planDrill(intent, context, host) : planBackup(intent, context, host);
  },
});
