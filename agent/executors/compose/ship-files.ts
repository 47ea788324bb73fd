import { Failure } from '../../plan/failure.ts';
import type { FileChange, HostReader, ReadResult, ReleasedFile, WriteStep } from '../../plan/plan.ts';
import type { HostSite } from '../executor.ts';

/** The record of the files that rollouts have shipped to a stack's folder. */
interface ShipmentRecord {
  version: 1;
  files: { path: string; sha256: string; mode: number }[];
}

/** A file that the stack's folder must contain. */
export interface FileToShip {
  path: string;
  mode: number;
  sha256: string;
  /** Absolute path of the content now. */
  at: string;
  /** The content is a kept one of a release. A rollout's content is in the command. */
  isKept?: true;
}

export interface Shipment {
  /** Undefined if nothing is shipped. */
  step: WriteStep | undefined;
  writes: FileToShip[];
  removes: string[];
  /** Changes of the stack's folder: absolute path, and the path of the content (null: removed). */
  overlay: Record<string, string | null>;
  /** Files of earlier rollouts; null if none has shipped any. */
  earlier: ReleasedFile[] | null;
}

export const WRITE_STEP = 'write files';

/**
 * Plans the changes of the stack's folder: the command's files are written, files that only an earlier rollout shipped are
 * removed, and no other file is touched. The record is written first (old and new names) and last (new names), so that a
 * crash in between loses no name. Throws Failure `env-file-not-ours`.
 */
export async function planShipment(
  dir: string,
  stack: string,
  files: FileToShip[],
  site: HostSite,
  host: HostReader,
): Promise<Shipment> {
  const recordFile = `${site.memory}/${stack}/shipped.json`;
  const text = await host.read(recordFile);
  const earlier = readRecord(text, recordFile);
  const earlierFiles = text ? earlier.files : null;
  if (files.length === 0) return { step: undefined, writes: [], removes: [], overlay: {}, earlier: earlierFiles };
  const shippedPaths = new Set(files.map(file => file.path));
  const removed = earlier.files.filter(file => !shippedPaths.has(file.path));
  for (const file of files) await checkEnvFile(dir, file, earlier, host);

  const manifest = (listed: ShipmentRecord['files']): FileChange => ({
    path: recordFile,
    root: site.memory,
    own: true,
    mode: 0o600,
    content: { text: `${JSON.stringify({ version: 1, files: listed } satisfies ShipmentRecord, null, 1)}\n` },
  });
  const shipped = files.map(({ path, sha256, mode }) => ({ path, sha256, mode }));
  const changes: FileChange[] = [
    manifest([...shipped, ...removed]),
    ...files.map(
      ({ path, sha256, mode, at, isKept }): FileChange => ({
        path: `${dir}/${path}`,
        root: site.stacksRoot,
        mode,
        content: isKept ? { file: at } : { shipped: sha256 },
      }),
    ),
    ...removed.map(({ path }): FileChange => ({ path: `${dir}/${path}`, root: site.stacksRoot, remove: true })),
  ];
  if (removed.length > 0) changes.push(manifest(shipped));
  const earlierByPath = new Map(earlier.files.map(file => [file.path, file]));
  return {
    step: { do: 'write', name: WRITE_STEP, changes },
    writes: files.filter(
      file => earlierByPath.get(file.path)?.sha256 !== file.sha256 || earlierByPath.get(file.path)?.mode !== file.mode,
    ),
    removes: removed.map(file => file.path),
    overlay: Object.fromEntries([
      ...removed.map(({ path }) => [`${dir}/${path}`, null]),
      ...files.map(({ path, at }) => [`${dir}/${path}`, at]),
    ]),
    earlier: earlierFiles,
  };
}

/** Such files hold the host's secrets: one that no rollout shipped is never overwritten. */
async function checkEnvFile(dir: string, file: FileToShip, earlier: ShipmentRecord, host: HostReader): Promise<void> {
  const name = file.path.split('/').at(-1) ?? '';
  if (!/(^|\.)env(\.|$)/i.test(name) || earlier.files.some(known => known.path === file.path)) return;
  const folder = `${dir}/${file.path}`.slice(0, -name.length - 1);
  if (!(await host.list(folder))?.includes(name)) return;
  throw new Failure(
    'env-file-not-ours',
    `${folder}/${name} exists on the host and was not shipped by a rollout.`,
    `Remove ${file.path} from source_dir, or move the file on the host away.`,
  );
}

function readRecord(text: ReadResult<string>, recordFile: string): ShipmentRecord {
  if (!text) return { version: 1, files: [] };
  try {
    return JSON.parse(text) as ShipmentRecord;
  } catch {
    throw new Failure(
      'record-unreadable',
      `${recordFile} can't be read.`,
      'Remove it on the host. Files that were shipped earlier then stay there.',
    );
  }
}
