import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from './load.ts';

/** Creates `state_dir`. Throws {@link ConfigError} if other users can read it. */
export function makeStateDir(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if ((statSync(folder).mode & 0o077) !== 0)
    throw new ConfigError(
      `${folder}: other users can read this folder, which holds the agent’s key. Run: chmod 700 ${folder}`,
    );
  mkdirSync(join(folder, 'backups'), { recursive: true, mode: 0o700 });
}
