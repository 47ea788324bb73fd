import type { BackupDescription } from '../../plan/backup-manifest.ts';
import { quoteWord } from '../../plan/quote.ts';

export function restoreMysqlByHand({ file = '', database }: BackupDescription): string {
  const unpack = file.endsWith('.zst') ? 'zstd -dc' : file.endsWith('.gz') ? 'gzip -dc' : 'cat';
  return `The dump creates the database ${database} and fills it. It replaces existing tables of that name:

    ${unpack} <folder>/${quoteWord(file)} > dump.sql
    mariadb --user=root -p < dump.sql

A client older than the server may reject the dump's first line ("enable the sandbox mode"): remove that line.
`;
}
