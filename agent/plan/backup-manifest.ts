import { z } from 'zod';
import { BackupKind } from '../../intents/intent.ts';

export type { BackupKind } from '../../intents/intent.ts';

/*
 * A manifest is stored next to its backup, often on another machine, and anybody with access to that machine can change it.
 * So every field is refused that could act as an option, as a path to another folder, or as a line of a program.
 */

const name = z.string().regex(/^\w[\w.-]{0,127}$/);
/** A name in a folder: not a path, not an option. */
const entry = z.string().regex(/^(?!\.{1,2}$)[^-/\0\r\n][^/\0\r\n]{0,254}$/);
const line = z
  .string()
  .max(8192)
  .regex(/^[^\0]*$/);
/** Absolute, without "." and "..". */
const path = z
  .string()
  .max(4096)
  .regex(/^\/(?!.*(^|\/)\.\.?(\/|$))[^\0\r\n]*$/);

const description = {
  kind: BackupKind,
  name,
  run: z.string().regex(/^[A-Za-z0-9-]{0,64}$/),
  at: z.iso.datetime(),
  source: z
    .string()
    .max(4096)
    .regex(/^(?!-)(?!.*(^|[/:])\.\.(\/|$))[^\0\r\n]*$/),
  notes: line.optional(),
  /** The checks that it passed, in addition to being read back. */
  checks: z.array(line).max(100).optional(),
  /** The programs that made it, each with the version that it reports. */
  versions: z.record(z.string(), line).optional(),
  /** The id of the container's image, for a drill. */
  image: z
    .string()
    .regex(/^[a-z0-9][\w./:@-]{0,511}$/)
    .optional(),
  /** The file in the backup that holds the database. Of Plex: the path of its SQLite program in the image. */
  file: z.union([entry, path]).optional(),
  /** The database's name. */
  database: z
    .string()
    .regex(/^[^-\0\r\n][^\0\r\n]{0,127}$/)
    .optional(),
  /** The files in an archive. */
  parts: z.array(entry).max(1000).optional(),
  /** The backup with which it shares unchanged files. */
  parent: entry.optional(),
  /** Its id in the restic repository next to the manifest. */
  snapshot: z
    .string()
    .regex(/^[0-9a-f]{8,64}$/)
    .optional(),
};

const readBack = {
  bytes: z.number().nonnegative(),
  files: z.number().nonnegative(),
  /** The digest of a file; for a folder, the digest of the list of its files' digests. */
  sha256: z.string().regex(/^[0-9a-f]{0,64}$/),
};

/** The part of a manifest that the plan knows, before the backup is read back. */
export type BackupDescription = z.infer<z.ZodObject<typeof description>>;
/** The result of reading a backup. */
export type BackupContent = z.infer<z.ZodObject<typeof readBack>>;

/** The file `<name>.json` next to a backup. A manifest is rewritten with all its fields: also with those of a newer agent. */
export const BackupManifest = z.looseObject({
  ...description,
  ...readBack,
  /** The time at which it was read back. */
  verified_at: z.iso.datetime().optional(),
  /** Retention never removes it. */
  protected: z.boolean().optional(),
  /** The last drill, and how long it took. */
  drill: z.looseObject({ at: z.iso.datetime(), seconds: z.number() }).optional(),
  /** It no longer matches its digest. It is kept, but no restore and no later backup uses it. */
  broken: z.looseObject({ at: z.string(), why: line }).optional(),
  schema_version: z.number().optional(),
});
export type BackupManifest = z.infer<typeof BackupManifest>;

/** Returns the manifest; undefined if a field is missing, malformed or could mislead. */
export function parseManifest(text: string): BackupManifest | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const read = BackupManifest.safeParse(value);
  // Of Plex alone `file` is a program's path.
  if (!read.success || (read.data.file?.startsWith('/') && read.data.kind !== 'plex')) return undefined;
  return read.data;
}
