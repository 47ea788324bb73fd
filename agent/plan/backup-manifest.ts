import { z } from 'zod';

/*
 * A manifest lies beside its backup, often on another machine: whoever has that may write what they like into it. So nothing
 * of it is used that could be an option, a path that leads elsewhere, or a program's line.
 */

const name = z.string().regex(/^\w[\w.-]{0,127}$/);
/** A name in a folder: no path, no option. */
const entry = z.string().regex(/^(?!\.{1,2}$)[^-/\0\r\n][^/\0\r\n]{0,254}$/);
const line = z
  .string()
  .max(8192)
  .regex(/^[^\0]*$/);
/** Absolute, and nowhere climbing. */
const path = z
  .string()
  .max(4096)
  .regex(/^\/(?!.*(^|\/)\.\.?(\/|$))[^\0\r\n]*$/);

const BackupManifest = z.looseObject({
  kind: z.enum(['docker_volumes', 'sqlite', 'plex', 'postgres', 'mysql', 'mariadb', 'vm_proxmox']),
  name,
  run: z.string().regex(/^[A-Za-z0-9-]{0,64}$/),
  at: z.iso.datetime(),
  source: z
    .string()
    .max(4096)
    .regex(/^(?!-)(?!.*(^|[/:])\.\.(\/|$))[^\0\r\n]*$/),
  notes: line.optional(),
  checks: z.array(line).max(100).optional(),
  versions: z.record(z.string(), line).optional(),
  image: z
    .string()
    .regex(/^[a-z0-9][\w./:@-]{0,511}$/)
    .optional(),
  file: z.union([entry, path]).optional(),
  database: z
    .string()
    .regex(/^[^-\0\r\n][^\0\r\n]{0,127}$/)
    .optional(),
  parts: z.array(entry).max(1000).optional(),
  parent: entry.optional(),
  snapshot: z
    .string()
    .regex(/^[0-9a-f]{8,64}$/)
    .optional(),
  bytes: z.number().nonnegative(),
  files: z.number().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{0,64}$/),
  verified_at: z.iso.datetime().optional(),
  protected: z.boolean().optional(),
  drill: z.looseObject({ at: z.iso.datetime(), seconds: z.number() }).optional(),
  broken: z.looseObject({ at: z.string(), why: line }).optional(),
});

/** What stands in a manifest; undefined for what is none, or could mislead. Of Plex alone `file` is a program's path. */
export function parseManifest(text: string): z.infer<typeof BackupManifest> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const read = BackupManifest.safeParse(value);
  if (!read.success || (read.data.file?.startsWith('/') && read.data.kind !== 'plex')) return undefined;
  return read.data;
}
