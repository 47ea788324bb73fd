import type { LoadedIntent } from './load.ts';

/** Lists the names of the intent files whose backups must run first, without duplicates. */
export function listRequiredBackups(loaded: LoadedIntent[]): string[] {
  const names = loaded.flatMap(({ intent }) =>
    intent.action === 'rollout' && intent.backup_before !== undefined ? [intent.backup_before] : [],
  );
  return [...new Set(names)];
}
