import type { CheckSourceStep } from '../../plan/plan.ts';
import type { BackupGroup } from '../backup/group.ts';
import type { BackupSource } from '../backup/opened.ts';
import type { HostSite, Intent } from '../executor.ts';
import { checkOptions, excludeRules } from './options.ts';

export type VolumesBackupIntent = Extract<Intent, { action: 'backup'; backup_type: 'docker_volumes' }>;

/** rsync needs the whole file list first for a percentage that only grows. */
export const PROGRESS = ['--stats', '--info=progress2,name0', '--no-inc-recursive', '--outbuf=L'];

/** rsync copies neither device nodes nor pipes and sockets. */
export const SKIP_DEVICES = ['--no-devices', '--no-specials'];

/** Returns rsync's options for the copy. Throws Failure: `option-not-allowed`, `exclude-not-allowed`. */
export function copyOptions(intent: VolumesBackupIntent): string[] {
  return [
    // -1: compares times to the nanosecond. Otherwise a file that changes twice in a second counts as unchanged.
    ...['--archive', '--hard-links', '--numeric-ids', '--one-file-system', '--modify-window=-1'],
    ...ownership(intent.ownership),
    ...checkOptions(intent.options ?? []),
    // Last: `--archive` names them too. A device node would come back as one.
    ...SKIP_DEVICES,
    ...excludeRules(intent.exclude ?? []),
  ];
}

/** Describes the earlier backups for the remedy of a failed step; empty if the plan knows of none. */
export function describeEarlier({ earlier }: Pick<BackupGroup, 'earlier'>): string {
  return earlier.length === 0 ? '' : 'The earlier backups are untouched.';
}

export function planSourceCheck(
  { path }: BackupSource,
  site: HostSite,
  { last }: Pick<BackupGroup, 'last'>,
  intent: VolumesBackupIntent,
): CheckSourceStep {
  return {
    do: 'check-source',
    name: 'check the source',
    path,
    roots: site.backups.sources,
    last: last && { bytes: last.bytes, files: last.files },
    acceptShrink: intent.accept_shrink === true,
    ...(intent.consistency === undefined && intent.stop_services === undefined ? { live: true } : {}),
  };
}

function ownership(mode: VolumesBackupIntent['ownership']): string[] {
  if (mode === 'drop') return ['--no-owner', '--no-group'];
  return mode === 'fake_super' ? ['--fake-super'] : [];
}
