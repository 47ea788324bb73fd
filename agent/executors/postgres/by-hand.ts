import type { BackupDescription } from '../../plan/backup-manifest.ts';

export function restorePostgresByHand({ file, database }: BackupDescription): string {
  return `Load the dump into a new database, check it, and rename it:

    createdb --template=template0 ${database}_restored
    pg_restore --exit-on-error --dbname=${database}_restored <folder>/${file}

If roles are missing, make them from <folder>/globals.sql (it has no passwords): psql --dbname=postgres --file=<folder>/globals.sql
`;
}
