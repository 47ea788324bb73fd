import type { BackupDescription } from '../../plan/backup-manifest.ts';
import { quoteWord } from '../../plan/quote.ts';

export function restorePostgresByHand({ file = '', database = '' }: BackupDescription): string {
  const restored = quoteWord(`${database}_restored`);
  return `Load the dump into a new database, check it, and rename it:

    createdb --template=template0 ${restored}
    pg_restore --exit-on-error --dbname=${restored} <folder>/${quoteWord(file)}

If roles are missing, make them from <folder>/globals.sql (it has no passwords): psql --dbname=postgres --file=<folder>/globals.sql
`;
}
