import { readFile } from 'node:fs/promises';
import type { ExpectListedStep, StartStep } from '../plan/plan.ts';
import type { BackupFacts, StepResult } from '../plan/progress.ts';
import { failStep, formatMib, type StepExecution } from './backup-files.ts';

/** What of a listing's entry is read, as Proxmox names it. */
interface ListedBackup {
  volid: string;
  size: number;
  ctime: number;
}

/** Judges the listing that a program has written to `file`. */
export function findNewBackup(text: string, step: ExpectListedStep): StepResult {
  let entries: ListedBackup[];
  try {
    entries = JSON.parse(text) as ListedBackup[];
  } catch {
    return failStep(
      'backup-not-listed',
      `"${step.argv.join(' ')}" did not answer with a list.`,
      'Run it on the host to see why.',
    );
  }
  const since = Math.floor(Date.parse(step.since) / 1000);
  const found = entries.filter(({ ctime, size }) => ctime >= since && size > 0).sort((a, b) => b.ctime - a.ctime)[0];
  if (!found)
    return failStep(
      'backup-not-listed',
      `The program said that it was done, but the storage lists no new backup (${entries.length} older ones).`,
      'Look at the storage, and whether the guest is on this node. Nothing was pruned.',
    );
  const backup = { ...step.backup, archive: found.volid, bytes: found.size, files: 1, sha256: '', verified: false };
  return { outcome: 'succeeded', backup, message: `${found.volid}, ${formatMib(found.size)}` };
}

/** What reads an archive to its end and fails where it is damaged, by the ending of its name. */
const READERS: [RegExp, (file: string) => [string, ...string[]]][] = [
  [/\.zst$/, file => ['zstd', '--quiet', '--test', '--', file]],
  [/\.gz$/, file => ['gzip', '--test', '--', file]],
  [/\.lzo$/, file => ['lzop', '--test', '--', file]],
  [/\.vma$/, file => ['vma', 'verify', file]],
  [/\.tar$/, file => ['tar', '--list', '--file', file]],
];

/** Reads a listed backup back, where it is a file of this host. `run` carries out a step; `told` takes the file's name. */
export async function* readArchive(
  read: NonNullable<ExpectListedStep['read']>,
  found: StepResult & { backup: BackupFacts },
  told: string,
  run: (step: StartStep) => StepExecution,
): StepExecution {
  const { archive } = found.backup;
  const failure = {
    code: 'backup-broken',
    remedy: 'The archive can’t be read to its end: look at the storage’s disk and room. Nothing was pruned.',
  };
  const [path, ...words] = read.path;
  const asking: StartStep = {
    do: 'start',
    name: 'find the archive',
    argv: [path, ...words, archive],
    timeout: read.timeout,
    stdoutTo: told,
    failure,
    repeatable: true,
  };
  if ((await drain(run(asking))).outcome !== 'succeeded')
    return yield* skipReading(found, 'the storage names no file for it');
  const file = (await readFile(told, 'utf8')).trim();
  const reader = READERS.find(([ending]) => ending.test(file))?.[1];
  if (!reader) return yield* skipReading(found, `nothing here reads ${file}`);
  yield { text: `reading ${file} back\n` };
  const { timeout, stallTimeout } = read;
  const ending = yield* run({
    ...asking,
    ...{ name: 'read the archive back', argv: reader(file), timeout, stallTimeout },
    stdoutTo: `${told}.list`,
  });
  if (ending.outcome !== 'succeeded') return ending;
  return { ...found, backup: { ...found.backup, verified: true } };
}

async function* skipReading(found: StepResult, why: string): StepExecution {
  yield { text: `not read back: ${why}\n` };
  return found;
}

async function drain(doing: StepExecution): Promise<StepResult> {
  for (;;) {
    const next = await doing.next();
    if (next.done) return next.value;
  }
}
