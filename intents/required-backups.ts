import type { LoadedIntent } from './load.ts';

/** Names of the intent files whose backups must be made first, each once. */
export function listRequiredBackups(loaded: LoadedIntent[]): string[] {
  const names = loaded.flatMap(({ intent }) =>
    intent.action === 'rollout' && intent.backup_before !== undefined ? [intent.backup_before] : [],
  );
  return [...new Set(names)];
}
