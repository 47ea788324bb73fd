import { z } from 'zod';

/** A path of this host as agent.yaml names it. */
export const Absolute = z
  .string()
  .regex(/^\/(?!.*\/\.\.?(\/|$))/, 'Expected an absolute path without "." or ".." in it');

/** A file that holds a secret: an absolute path, or `credential:NAME` for one of systemd's (`LoadCredential=`). */
export const SecretFile = z
  .string()
  .regex(
    /^(\/(?!.*\/\.\.?(\/|$))[^\0]*|credential:[\w.-]+)$/,
    'Expected an absolute path, or "credential:" and a name',
  );

/** A path that is given to ssh as part of a line: no spaces, no quotes. */
const Word = z.string().regex(/^\/[\w./@+-]+$/, 'Expected an absolute path of letters, digits and "._@+-"');
const BackupRemoteSchema = z.strictObject({
  target: z
    .string()
    .regex(
      /^(rsync:\/\/([\w.-]+@)?[\w.-]+(:\d{1,5})?\/[\w.-]+(\/[\w.-]+)*|[\w.-]+@[\w.-]+:\/[\w./-]*[\w-])$/,
      'Expected "rsync://host/module/folder" or "user@host:/folder", without a slash at its end',
    )
    .describe('The place below which backups may be written: rsync://nas/backup or backup@nas:/srv/backup.'),
  ssh: z
    .strictObject({
      key_file: Word.optional().describe('The private key.'),
      known_hosts: Word.optional().describe('Where the other host’s key is known.'),
      port: z.int().min(1).max(65_535).optional(),
    })
    .optional(),
  password_file: z
    .string()
    .regex(
      /^(\/[\w./@+-]+|credential:[\w.-]+)$/,
      'Expected an absolute path of letters, digits and "._@+-", or "credential:" and a name',
    )
    .optional()
    .describe('Of an rsync daemon’s user; mode 0600.'),
  marker: z
    .string()
    .regex(/^[\w.][\w.-]{0,63}$/, 'Expected a file’s name')
    .optional()
    .describe('A file that must be in the target: proof that the right disk is mounted there.'),
});

/** What backups may read and where they may go. */
export const BackupsConfig = z
  .strictObject({
    sources: z
      .array(Absolute)
      .default(['/var/lib/docker/volumes'])
      .describe('Folders below which backups may read. The stacks’ root is always one.'),
    destinations: z
      .array(
        z.strictObject({
          path: Absolute.describe('The folder below which backups may be written.'),
          mount: z
            .strictObject({
              source: z
                .string()
                .min(1)
                .optional()
                .describe('What is mounted, as in /proc/self/mounts: "nas:/export/backup".'),
              fstype: z.string().min(1).optional().describe('Its type: nfs4, ext4 …'),
            })
            .optional()
            .describe('The path must be a mount point, of this source and type where they are named.'),
          marker: z
            .string()
            .regex(/^[\w.-]{1,64}$/)
            .optional()
            .describe(
              'The text that the file .chatops-backup-target in the path must hold: proof that it is that share.',
            ),
          min_free: z
            .string()
            .regex(/^\d{1,6}(MiB|GiB)$/, 'Expected a size such as "500MiB" or "2GiB"')
            .default('2GiB')
            .describe('What must be free beside the backup.'),
        }),
      )
      .default([])
      .describe('Where backups may be written. Without one there are none.'),
    remotes: z.array(BackupRemoteSchema).default([]).describe('Other hosts that take backups by rsync.'),
    databases: z
      .array(
        z.strictObject({
          server: z
            .string()
            .regex(
              /^(\/[^\0\s]+|[A-Za-z0-9][A-Za-z0-9_.-]{0,127})$/,
              'Expected a container’s name or a socket’s folder',
            )
            .describe('The container, or the folder of the server’s socket.'),
          user: z
            .string()
            .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$/)
            .optional(),
          password_file: SecretFile.optional().describe('Its first line is the password.'),
        }),
      )
      .default([])
      .describe('Database servers that want another user or password than their container’s variables tell.'),
    restic: z
      .strictObject({
        password_file: SecretFile.describe('The password of restic’s repositories. Keep a copy elsewhere.'),
      })
      .optional()
      .describe('For method: restic.'),
  })
  .default({ sources: ['/var/lib/docker/volumes'], destinations: [], remotes: [], databases: [] })
  .describe('Bounds of backups.');
