import { randomBytes } from 'node:crypto';
import { chown, mkdir, readFile, realpath, rm, stat, statfs } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { messageOf } from '../../protocol/refusal.ts';
import type { CheckSourceStep, CheckTargetStep } from '../plan/plan.ts';
import { writeDurably } from '../system/durable-files.ts';
import { failStep, formatMib, type StepExecution, walkFiles } from './backup-files.ts';

/** In a destination's folder: proof that it is the share that is meant. */
export const MARKER = '.chatops-backup-target';

const NOBODY = 65_534;
const yes = () => true;
const no = () => false;

export async function* runTargetCheck(step: CheckTargetStep): StepExecution {
  const { path, mount, marker, folder, needs } = step;
  if (!(await stat(path).catch(() => undefined))?.isDirectory())
    return failStep(
      'destination-missing',
      `${path} is not a folder of this host.`,
      'Mount the share, or correct backups.destinations in agent.yaml.',
    );
  if (mount) {
    const is = await findMount(path);
    if (!is)
      return failStep('destination-not-mounted', `Nothing is mounted at ${path}.`, `Mount the share: "mount ${path}".`);
    if (
      (mount.source !== undefined && mount.source !== is.source) ||
      (mount.fstype !== undefined && mount.fstype !== is.fstype)
    )
      return failStep(
        'destination-not-mounted',
        `At ${path} is mounted ${is.source} (${is.fstype}), not ${mount.source ?? 'any source'} (${mount.fstype ?? 'any type'}).`,
        'Mount the right share, or correct backups.destinations in agent.yaml.',
      );
    yield { text: `mounted: ${is.source} (${is.fstype})\n` };
  }
  if (marker !== undefined) {
    const found = await readFile(join(path, MARKER), 'utf8').catch(() => undefined);
    if (found?.trim() !== marker)
      return failStep(
        'destination-unmarked',
        `${join(path, MARKER)} ${found === undefined ? 'is not there' : 'holds another text'}: this is not the share that is meant.`,
        `If it is, write the marker into it: echo ${marker} > ${join(path, MARKER)}`,
      );
  }
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const probe = join(folder, `.probe.${randomBytes(6).toString('hex')}`);
    await writeDurably(probe, 'x');
    // Who is not root keeps no owners anyhow.
    const keeps = !step.owners || process.getuid?.() !== 0 || (await chown(probe, NOBODY, NOBODY).then(yes, no));
    await rm(probe);
    if (!keeps)
      return failStep(
        'destination-ownership',
        `Owners can't be set in ${folder}: the share squashes root.`,
        'Say ownership: drop or ownership: fake_super in the intent, or export the share with no_root_squash.',
      );
  } catch (error) {
    return failStep(
      'destination-unwritable',
      `${folder} can't be written: ${messageOf(error)}`,
      'Let the agent’s user write there, and look for a full or read-only file system.',
    );
  }
  const room = await statfs(path);
  const free = room.bavail * room.bsize;
  yield { text: `${formatMib(free)} free\n` };
  if (free >= needs) return { outcome: 'succeeded' };
  return failStep(
    'destination-full',
    `${path} has ${formatMib(free)} free; ${formatMib(needs)} are needed.`,
    'Make room there, keep fewer backups, or lower min_free in agent.yaml.',
  );
}

/** What is mounted right at that path; undefined where it is no mount point. */
async function findMount(path: string): Promise<{ source: string; fstype: string } | undefined> {
  const real = await realpath(path);
  const plain = (text: string) =>
    text.replaceAll(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  const lines = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map(line => line.split(' ').map(plain));
  const found = lines.findLast(([, target]) => target === real);
  return found ? { source: found[0] ?? '', fstype: found[2] ?? '' } : undefined;
}

export async function* runSourceCheck(step: CheckSourceStep): StepExecution {
  const real = await realpath(step.path).catch(() => undefined);
  if (real === undefined || !(await stat(real)).isDirectory())
    return failStep('source-missing', `${step.path} is not a folder of this host.`, 'Mount it, or correct the intent.');
  const roots = await Promise.all(step.roots.map(root => realpath(root).catch(() => root)));
  if (!roots.some(root => real === root || real.startsWith(root + sep)))
    return failStep(
      'path-outside',
      `${step.path} does not stay under the folders that backups may read.`,
      'Add its folder to backups.sources in agent.yaml.',
    );
  let bytes = 0;
  let files = 0;
  const databases: string[] = [];
  for await (const { path, size } of walkFiles(real)) {
    bytes += size;
    files++;
    if (isDatabase(path)) databases.push(path);
  }
  yield { text: `${files} files, ${formatMib(bytes)}\n` };
  if (files === 0)
    return failStep(
      'source-empty',
      `${step.path} holds no file.`,
      'Look whether it is mounted. What is empty on purpose needs no backup.',
    );
  if (step.live && databases.length > 0)
    return failStep(
      'database-live',
      `${step.path} holds a database that is in use or may be (${databases.slice(0, 3).join(', ')}): copied while it is written to it is broken.`,
      'Back it up by database_type (sqlite, postgres, mysql, plex), or say consistency: stop; consistency: live if you mean it.',
    );
  const { last } = step;
  if (last && !step.acceptShrink && (files * 2 < last.files || bytes * 2 < last.bytes))
    return failStep(
      'source-shrank',
      `${step.path} has ${files} files and ${formatMib(bytes)}; the last backup held ${last.files} and ${formatMib(last.bytes)}.`,
      'Look whether something is lost. If it is meant, say accept_shrink: true in the intent.',
    );
  return { outcome: 'succeeded' };
}

/** A SQLite database with work to do, PostgreSQL's or InnoDB's files. */
function isDatabase(path: string): boolean {
  const name = path.slice(path.lastIndexOf('/') + 1);
  return /\.(db|sqlite|sqlite3)-wal$/.test(name) || name === 'PG_VERSION' || name === 'ibdata1';
}
