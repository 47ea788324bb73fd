import { z } from 'zod';

/** An absolute path of this host. */
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

/** A path without spaces and quotes: ssh gets it as part of a line. */
const Word = z.string().regex(/^\/[\w./@+-]+$/, 'Expected an absolute path of letters, digits and "._@+-"');
const BackupRemoteSchema = z.strictObject({
  target: z
    .string()
    .regex(
      /^(rsync:\/\/([\w.-]+@)?[\w.-]+(:\d{1,5})?\/[\w.-]+(\/[\w.-]+)*|[\w.-]+@[\w.-]+:\/[\w./-]*[\w-])$/,
      'Expected "rsync://host/module/folder" or "user@host:/folder", without a slash at its end',
    )
    .describe('The folder under which backups may be written: rsync://nas/backup or backup@nas:/srv/backup.'),
  ssh: z
    .strictObject({
      key_file: Word.optional().describe('The private key.'),
      known_hosts: Word.optional().describe('The file with the key of the other host.'),
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
    .describe('The password of the user of an rsync daemon; mode 0600.'),
  marker: z
    .string()
    .regex(/^[\w.][\w.-]{0,63}$/, 'Expected a file name')
    .optional()
    .describe('A file that must exist in the target: proof that the right disk is mounted there.'),
});

/** `backups` of agent.yaml: the sources that backups may read, and the places that they may write to. */
export const BackupsConfig = z
  .strictObject({
    sources: z
      .array(Absolute)
      .default(['/var/lib/docker/volumes'])
      .describe('Folders under which backups may read. stacks.root is always one of them.'),
    destinations: z
      .array(
        z.strictObject({
          path: Absolute.describe('The folder under which backups may be written.'),
          mount: z
            .strictObject({
              source: z
                .string()
                .min(1)
                .optional()
                .describe('The mounted device, as in /proc/self/mounts: "nas:/export/backup".'),
              fstype: z.string().min(1).optional().describe('The type of the file system: nfs4, ext4 …'),
            })
            .optional()
            .describe('The path must be a mount point, with this source and type if they are set.'),
          marker: z
            .string()
            .regex(/^[\w.-]{1,64}$/)
            .optional()
            .describe(
              'The text that the file .chatops-backup-target in the path must contain: proof that it is the right share.',
            ),
          min_free: z
            .string()
            .regex(/^\d{1,6}(MiB|GiB)$/, 'Expected a size such as "500MiB" or "2GiB"')
            .default('2GiB')
            .describe('The space that must stay free after the backup.'),
        }),
      )
      .default([])
      .describe('Folders for backups. Without a destination this host makes no backups to folders.'),
    remotes: z.array(BackupRemoteSchema).default([]).describe('Other hosts that accept backups over rsync.'),
    databases: z
      .array(
        z
          .strictObject({
            server: z
              .string()
              .regex(
                /^(\/[^\0\s]+|[A-Za-z0-9][A-Za-z0-9_.-]{0,127})$/,
                'Expected the name of a container or the folder of a socket',
              )
              .describe('The container, or the folder of the server’s socket.'),
            stack: z
              .union([
                z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, 'Expected the name of a stack'),
                z.literal(false),
              ])
              .optional()
              .describe(
                'The stack of the container, which alone gets the password; false: a container that compose did not start.',
              ),
            user: z
              .string()
              .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$/)
              .optional(),
            password_file: SecretFile.optional().describe('Its first line is the password.'),
          })
          .refine(
            ({ server, stack, password_file }) =>
              password_file === undefined || server.startsWith('/') || stack !== undefined,
            {
              error:
                'Expected "stack" next to "password_file": the password goes only to the container of that stack (false: to one that compose did not start)',
              path: ['stack'],
            },
          ),
      )
      .default([])
      .describe('Database servers that require another user or password than the variables of their container set.'),
    restic: z
      .strictObject({
        password_file: SecretFile.describe('The password of the restic repositories. Keep a copy elsewhere.'),
      })
      .optional()
      .describe('For method: restic.'),
  })
  .default({ sources: ['/var/lib/docker/volumes'], destinations: [], remotes: [], databases: [] })
  .describe('Limits of backups.');
