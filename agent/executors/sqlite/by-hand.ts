import type { BackupDescription } from '../../plan/backup-manifest.ts';
import { quoteWord } from '../../plan/quote.ts';

export function restoreSqliteByHand({ file = '' }: BackupDescription): string {
  return `Put the file in its place, and remove the old -wal and -shm next to it: SQLite would apply them to the restored file.

    cp -- <folder>/${quoteWord(file)} <target>
    rm -f -- <target>-wal <target>-shm
`;
}
