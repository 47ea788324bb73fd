import { readFile } from 'node:fs/promises';
import type { ExpectListedStep, StartStep } from '../plan/plan.ts';
import type { BackupFacts, StepResult } from '../plan/progress.ts';
import { failStep, formatMib } from './backup/files.ts';
import type { StepContext, StepExecution } from './runner.ts';
import { runStart } from './start.ts';

/** The fields of an entry in Proxmox's listing that the agent reads. */
interface ListedBackup {
  volid: string;
  size: number;
  ctime: number;
}

type RunProgram = (step: StartStep) => StepExecution;

/** Lists the storage's backups, finds the new one in it, and reads that back if it is a file of this host. */
export async function* runExpectListed(step: ExpectListedStep, context: StepContext): StepExecution {
  const stdoutTo = `${context.base}.json`;
  const failure = { code: 'backup-not-listed', remedy: 'Run the command on the host to see why.' };
  const { name, argv, timeout } = step;
  const list: StartStep = { do: 'start', name, argv, timeout, stdoutTo, repeatable: true, failure };
  const result = yield* runStart(list, context);
  if (result.outcome !== 'succeeded') return result;
  const found = findNewBackup(await readFile(stdoutTo, 'utf8'), step);
  if (!step.read || !found.backup) return found;
  let programs = 0;
  // Never resumed by another agent: it is safe to read an archive twice.
  const run: RunProgram = program =>
    runStart(program, { ...context, base: `${context.base}-${Date.now()}-${++programs}`, resumed: undefined });
  return yield* readArchive(step.read, { ...found, backup: found.backup }, `${stdoutTo}.path`, run);
}

/** Returns the result for the listing that a program wrote to a file. */
function findNewBackup(text: string, step: ExpectListedStep): StepResult {
  let entries: ListedBackup[];
  try {
    entries = JSON.parse(text) as ListedBackup[];
  } catch {
    return failStep(
      'backup-not-listed',
      `"${step.argv.join(' ')}" did not print a list.`,
      'Run it on the host to see why.',
    );
  }
  const since = Math.floor(Date.parse(step.since) / 1000);
  const found = entries.filter(({ ctime, size }) => ctime >= since && size > 0).sort((a, b) => b.ctime - a.ctime)[0];
  if (!found)
    return failStep(
      'backup-not-listed',
      `The program reported success, but the storage lists no new backup (${entries.length} older ones).`,
      'Check the storage, and that the guest is on this node. Nothing was pruned.',
    );
  const backup = { ...step.backup, archive: found.volid, bytes: found.size, files: 1, sha256: '', verified: false };
  return { outcome: 'succeeded', backup, message: `${found.volid}, ${formatMib(found.size)}` };
}

/** The program that reads an archive to its end and fails if it is damaged, by the extension. */
const READERS: [RegExp, (file: string) => [string, ...string[]]][] = [
  [/\.zst$/, file => ['zstd', '--quiet', '--test', '--', file]],
  [/\.gz$/, file => ['gzip', '--test', '--', file]],
  [/\.lzo$/, file => ['lzop', '--test', '--', file]],
  [/\.vma$/, file => ['vma', 'verify', file]],
  [/\.tar$/, file => ['tar', '--list', '--file', file]],
];

/** Reads a listed backup back if it is a file of this host. The path program writes the file's name to `pathFile`. */
async function* readArchive(
  read: NonNullable<ExpectListedStep['read']>,
  found: StepResult & { backup: BackupFacts },
  pathFile: string,
  run: RunProgram,
): StepExecution {
  const { archive } = found.backup;
  const failure = {
    code: 'backup-broken',
    remedy: 'The archive is not readable to its end: check the storage’s disk and free space. Nothing was pruned.',
  };
  const [path, ...words] = read.path;
  const findFile: StartStep = {
    do: 'start',
    name: 'find the archive',
    argv: [path, ...words, archive],
    timeout: read.timeout,
    stdoutTo: pathFile,
    failure,
    repeatable: true,
  };
  if ((await drain(run(findFile))).outcome !== 'succeeded')
    return yield* skipReading(found, 'the storage has no file for it');
  const file = (await readFile(pathFile, 'utf8')).trim();
  const reader = READERS.find(([extension]) => extension.test(file))?.[1];
  if (!reader) return yield* skipReading(found, `no program is known that reads ${file}`);
  yield { text: `reading ${file} back\n` };
  const { timeout, stallTimeout } = read;
  const result = yield* run({
    ...findFile,
    ...{ name: 'read the archive back', argv: reader(file), timeout, stallTimeout },
    stdoutTo: `${pathFile}.list`,
  });
  if (result.outcome !== 'succeeded') return result;
  return { ...found, backup: { ...found.backup, verified: true } };
}

async function* skipReading(found: StepResult, why: string): StepExecution {
  yield { text: `not read back: ${why}\n` };
  return found;
}

/** Runs a step without its output. */
async function drain(execution: StepExecution): Promise<StepResult> {
  for (;;) {
    const next = await execution.next();
    if (next.done) return next.value;
  }
}
