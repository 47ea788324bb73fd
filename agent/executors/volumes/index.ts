import { type Executor, hostsOf, type Intent } from '../executor.ts';
import { claimsOfBackup, planBackup, type VolumesBackup } from './backup.ts';
import { claimsOfRestore, planRestore, type VolumesRestore } from './restore.ts';

type OnVolumes = VolumesBackup | VolumesRestore;

/** Copies of volumes and folders by rsync into a folder of this host (which may be a mounted share), and back. */
export const volumes: Executor<OnVolumes> = {
  kind: 'volumes',
  takes: (intent): intent is OnVolumes =>
    intent.action === 'restore' ||
    (intent.action === 'backup' && 'backup_type' in intent && intent.backup_type === 'docker_volumes'),
  subject: subjectOf,
  claims: (intent, site) =>
    intent.action === 'restore' ? claimsOfRestore(intent, site) : claimsOfBackup(intent, site),
  asks: intent => (intent.action === 'restore' && intent.verify ? hostsOf(intent.verify) : []),
  plan: (intent, context, look) =>
    intent.action === 'restore' ? planRestore(intent, context, look) : planBackup(intent, context, look),
};

/** A stack whose services are stopped is locked as by a rollout; else the folder is. */
function subjectOf(intent: Intent & OnVolumes): string {
  if (intent.stack !== undefined) return `stack ${intent.stack}`;
  if (intent.action === 'restore') return `folder ${intent.to ?? `${intent.to_container}:${intent.to_path}`}`;
  return `folder ${intent.source ?? `${intent.source_container}:${intent.source_path}`}`;
}
