import { randomBytes } from 'node:crypto';
import { chown, readFile, realpath, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../../protocol/refusal.ts';
import { Failure } from '../../plan/failure.ts';
import { findRoot } from '../../plan/paths.ts';
import type { CheckSourceStep, CheckTargetStep } from '../../plan/plan.ts';
import { writeDurably } from '../../system/durable-files.ts';
import { openFolder, readRegular } from '../../system/safe-paths.ts';
import type { StepExecution } from '../runner.ts';
import { failStep, formatMib, openGroup, walkFiles } from './files.ts';

/** The file in a destination that proves that the right share is mounted. */
const MARKER = '.chatops-backup-target';

const MAX_MARKER_BYTES = 1024;
const NOBODY = 65_534;
const yes = () => true;
const no = () => false;

export async function* runTargetCheck(step: CheckTargetStep): StepExecution {
  const { path, mount, marker, folder, needs } = step;
  await using destination = await openFolder(path, path, step.own ? { make: 0o700 } : {}).catch(noFolder);
  if (!destination)
    return failStep(
      'destination-missing',
      `${path} is not a folder of this host.`,
      'Mount the share, or correct backups.destinations in agent.yaml.',
    );
  if (mount) {
    const found = await findMount(path);
    if (!found)
      return failStep('destination-not-mounted', `Nothing is mounted at ${path}.`, `Mount the share: "mount ${path}".`);
    if (
      (mount.source !== undefined && mount.source !== found.source) ||
      (mount.fstype !== undefined && mount.fstype !== found.fstype)
    )
      return failStep(
        'destination-not-mounted',
        `${path} is a mount of ${found.source} (${found.fstype}), not of ${mount.source ?? 'any source'} (${mount.fstype ?? 'any type'}).`,
        'Mount the right share, or correct backups.destinations in agent.yaml.',
      );
    yield { text: `mounted: ${found.source} (${found.fstype})\n` };
  }
  if (marker !== undefined) {
    const found = await readRegular(destination.at(MARKER), MAX_MARKER_BYTES).catch(() => undefined);
    if (found?.toString().trim() !== marker)
      return failStep(
        'destination-unmarked',
        `${join(path, MARKER)} ${found === undefined ? 'is missing' : 'has another text'}: this may be the wrong share.`,
        `Mount the right share. If this is it, write the marker: echo ${marker} > ${join(path, MARKER)}`,
      );
  }
  try {
    await using opened = await openGroup({ folder, root: path }, { make: 0o700 });
    const probe = opened.at(`.probe.${randomBytes(6).toString('hex')}`);
    await writeDurably(probe, 'x');
    // Without root the agent can't keep owners anyway.
    const keepsOwners = !step.owners || process.getuid?.() !== 0 || (await chown(probe, NOBODY, NOBODY).then(yes, no));
    await rm(probe);
    if (!keepsOwners)
      return failStep(
        'destination-ownership',
        `Owners can't be set in ${folder}: the share maps root to another user (root_squash).`,
        'Say ownership: drop or ownership: fake_super in the intent, or export the share with no_root_squash.',
      );
  } catch (error) {
    if (error instanceof Failure) throw error;
    return failStep(
      'destination-unwritable',
      `${folder} is not writable: ${messageOf(error)}`,
      'Give the agent’s user write access, and check for a full or read-only file system.',
    );
  }
  const { bavail, bsize } = await statfs(path);
  const free = bavail * bsize;
  yield { text: `${formatMib(free)} free\n` };
  if (free >= needs) return { outcome: 'succeeded' };
  if (step.own)
    return failStep(
      'disk-full',
      `${path} has ${formatMib(free)} free; ${formatMib(needs)} are needed for copies that are checked there.`,
      'Free space on the disk of state_dir.',
    );
  return failStep(
    'destination-full',
    `${path} has ${formatMib(free)} free; ${formatMib(needs)} are needed.`,
    'Free space there, keep fewer backups, or lower min_free in agent.yaml.',
  );
}

/** A destination that is a file counts as missing. */
function noFolder(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOTDIR') throw error;
}

/** Returns the mount at exactly that path; undefined if the path is not a mount point. */
async function findMount(path: string): Promise<{ source: string; fstype: string } | undefined> {
  const real = await realpath(path);
  const decode = (text: string) =>
    text.replaceAll(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  const lines = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map(line => line.split(' ').map(decode));
  const found = lines.findLast(([, target]) => target === real);
  return found ? { source: found[0] ?? '', fstype: found[2] ?? '' } : undefined;
}

export async function* runSourceCheck(step: CheckSourceStep): StepExecution {
  await using source = await openFolder(step.path, findRoot(step.path, step.roots));
  if (!source)
    return failStep('source-missing', `${step.path} is not a folder of this host.`, 'Mount it, or correct the intent.');
  let bytes = 0;
  let files = 0;
  const databases: string[] = [];
  for await (const { path, size } of walkFiles(source)) {
    bytes += size;
    files++;
    if (isDatabase(path)) databases.push(path);
  }
  yield { text: `${files} files, ${formatMib(bytes)}\n` };
  if (files === 0)
    return failStep(
      'source-empty',
      `${step.path} holds no file.`,
      'Check that it is mounted. An empty folder needs no backup.',
    );
  if (step.live && databases.length > 0)
    return failStep(
      'database-live',
      `${step.path} holds a database that may be in use: ${databases.slice(0, 3).join(', ')}. A copy of it could be corrupt.`,
      'Back it up by database_type (sqlite, postgres, mysql, plex), or set consistency: stop; set consistency: live to copy it all the same.',
    );
  const { last } = step;
  if (last && !step.acceptShrink && (files * 2 < last.files || bytes * 2 < last.bytes))
    return failStep(
      'source-shrank',
      `${step.path} has ${files} files and ${formatMib(bytes)}; the last backup has ${last.files} and ${formatMib(last.bytes)}.`,
      'Check whether data is lost. If it was removed on purpose, set accept_shrink: true in the intent.',
    );
  return { outcome: 'succeeded' };
}

/** Detects a SQLite database with an open log, and the files of PostgreSQL and InnoDB. */
function isDatabase(path: string): boolean {
  const name = path.slice(path.lastIndexOf('/') + 1);
  return /\.(db|sqlite|sqlite3)-wal$/.test(name) || name === 'PG_VERSION' || name === 'ibdata1';
}
