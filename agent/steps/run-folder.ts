import { join } from 'node:path';
import type { ShippedFile } from '../../protocol/command.ts';
import type { ShippedFileRef } from '../executors/executor.ts';

/** Returns the path of one of the command's files in the run's folder: its name is the SHA-256 of its content. */
export function shippedPath(runDir: string, sha256: string): string {
  return join(runDir, 'shipped', sha256);
}

/** Returns the files that a command ships to the stack of one of its intents. */
export function listShippedFiles(files: readonly ShippedFile[], intent: object): Omit<ShippedFileRef, 'at'>[] {
  if (!('source_dir' in intent) || intent.source_dir === undefined || !('stack' in intent)) return [];
  return files.filter(file => file.stack === intent.stack).map(({ path, mode, sha256 }) => ({ path, mode, sha256 }));
}
