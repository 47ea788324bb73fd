import { lstat, mkdir, readdir, rename } from 'node:fs/promises';
import type { PruneStep, StartStep } from '../../plan/plan.ts';
import { applyRetention, type RetentionCandidate } from '../../plan/retention.ts';
import { descriptorPath, type OpenFolder, removeTree } from '../../system/safe-paths.ts';
import type { StepExecution } from '../runner.ts';
import { openGroup, readManifest } from './files.ts';

/** The age at which the partial backup of an interrupted run is removed. */
const ABANDONED_MS = 48 * 3_600_000;

/** `run`: runs the step that removes backups which are stored elsewhere. */
export async function* prune(step: PruneStep, run: (step: StartStep) => StepExecution): StepExecution {
  const { rules, minKeep, forget } = step;
  await using folder = await openGroup(step);
  const names = await readdir(descriptorPath(folder.handle));
  for (const name of names.filter(one => one.startsWith('.') && /\.(partial|list)/.test(one))) {
    const age = Date.now() - (await lstat(folder.at(name))).mtimeMs;
    if (age < ABANDONED_MS) continue;
    await removeTree(folder, name);
    yield { text: `removed ${name}: unfinished\n` };
  }
  for (const { name, keep, reason } of applyRetention(await listBackups(folder, names), rules, minKeep, new Date())) {
    yield { text: `${keep ? 'keep' : 'prune'} ${name}: ${reason}\n` };
    if (keep) continue;
    // The manifest goes first: if this is interrupted, the rest does not count as a backup.
    if (forget) await rename(folder.at(`${name}.json`), folder.at(`${name}${FORGOTTEN}`));
    else await removeTree(folder, `${name}.json`);
    await removeTree(folder, name);
    await removeTree(folder, `${name}.sha256`);
  }
  return forget ? yield* forgetRemote(folder, forget, run) : { outcome: 'succeeded' };
}

/** The ending of a manifest whose backup is still stored elsewhere. */
const FORGOTTEN = '.forgotten';

async function* forgetRemote(
  folder: OpenFolder,
  forget: NonNullable<PruneStep['forget']>,
  run: (step: StartStep) => StepExecution,
): StepExecution {
  const forgotten = (await readdir(descriptorPath(folder.handle))).filter(name => name.endsWith(FORGOTTEN));
  const { step, each, last, empty, also = [] } = forget;
  if (forgotten.length + also.length === 0) return { outcome: 'succeeded' };
  if (empty !== undefined) await mkdir(empty, { recursive: true, mode: 0o700 });
  const args: string[] = [];
  for (const file of [...forgotten, ...also]) {
    const snapshot = (await readManifest(folder, file))?.snapshot ?? '';
    const name = file.endsWith(FORGOTTEN) ? file.slice(0, -FORGOTTEN.length) : file;
    args.push(...each.map(arg => arg.replaceAll('{name}', name).replaceAll('{snapshot}', snapshot)));
  }
  const result = yield* run({ ...step, argv: [...step.argv, ...args, ...last] });
  if (result.outcome === 'succeeded') for (const file of forgotten) await removeTree(folder, file);
  return result;
}

/** Returns the backups that have a manifest, from the names in their folder. */
async function listBackups(folder: OpenFolder, names: string[]): Promise<RetentionCandidate[]> {
  const found: RetentionCandidate[] = [];
  for (const file of names) {
    if (!file.endsWith('.json') || file.startsWith('.')) continue;
    const manifest = await readManifest(folder, file);
    if (!manifest) continue;
    const verified = manifest.verified_at !== undefined && !manifest.broken;
    found.push({ name: file.slice(0, -5), at: manifest.at, verified, protected: manifest.protected === true });
  }
  return found;
}
