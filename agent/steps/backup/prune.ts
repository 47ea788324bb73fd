import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { PruneStep, StartStep } from '../../plan/plan.ts';
import { applyRetention, type RetentionCandidate } from '../../plan/retention.ts';
import type { StepExecution } from '../runner.ts';
import { readManifest } from './files.ts';

/** The age at which the partial backup of an interrupted run is removed. */
const ABANDONED_MS = 48 * 3_600_000;

/** `run`: runs the step that removes backups which are stored elsewhere. */
export async function* prune(step: PruneStep, run: (step: StartStep) => StepExecution): StepExecution {
  const { folder, rules, minKeep, forget } = step;
  const names = await readdir(folder).catch(() => []);
  for (const name of names.filter(one => one.startsWith('.') && /\.(partial|list)/.test(one))) {
    const age = Date.now() - (await stat(join(folder, name))).mtimeMs;
    if (age < ABANDONED_MS) continue;
    await rm(join(folder, name), { recursive: true, force: true });
    yield { text: `removed ${name}: unfinished\n` };
  }
  for (const { name, keep, reason } of applyRetention(listBackups(folder, names), rules, minKeep, new Date())) {
    yield { text: `${keep ? 'keep' : 'prune'} ${name}: ${reason}\n` };
    if (keep) continue;
    // The manifest goes first: if this is interrupted, the rest does not count as a backup.
    if (forget) await rename(join(folder, `${name}.json`), join(folder, `${name}${FORGOTTEN}`));
    else await rm(join(folder, `${name}.json`), { force: true });
    await rm(join(folder, name), { recursive: true, force: true });
    await rm(join(folder, `${name}.sha256`), { force: true });
  }
  return forget ? yield* forgetRemote(folder, forget, run) : { outcome: 'succeeded' };
}

/** The ending of a manifest whose backup is still stored elsewhere. */
const FORGOTTEN = '.forgotten';

async function* forgetRemote(
  folder: string,
  forget: NonNullable<PruneStep['forget']>,
  run: (step: StartStep) => StepExecution,
): StepExecution {
  const forgotten = (await readdir(folder)).filter(name => name.endsWith(FORGOTTEN));
  const { step, each, last, empty, also = [] } = forget;
  if (forgotten.length + also.length === 0) return { outcome: 'succeeded' };
  if (empty !== undefined) await mkdir(empty, { recursive: true, mode: 0o700 });
  const args = [...forgotten, ...also].flatMap(file => {
    const snapshot = readManifest(join(folder, file))?.snapshot ?? '';
    const name = file.endsWith(FORGOTTEN) ? file.slice(0, -FORGOTTEN.length) : file;
    return each.map(arg => arg.replaceAll('{name}', name).replaceAll('{snapshot}', snapshot));
  });
  const result = yield* run({ ...step, argv: [...step.argv, ...args, ...last] });
  if (result.outcome === 'succeeded') for (const file of forgotten) await rm(join(folder, file), { force: true });
  return result;
}

/** Returns the backups that have a manifest, from the names in their folder. */
function listBackups(folder: string, names: string[]): RetentionCandidate[] {
  return names.flatMap(file => {
    if (!file.endsWith('.json') || file.startsWith('.')) return [];
    const manifest = readManifest(join(folder, file));
    if (!manifest) return [];
    const verified = manifest.verified_at !== undefined && !manifest.broken;
    return [{ name: file.slice(0, -5), at: manifest.at, verified, protected: manifest.protected === true }];
  });
}
