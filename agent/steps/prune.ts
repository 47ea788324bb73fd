import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { PruneStep, StartStep } from '../plan/plan.ts';
import { applyRetention, type RetentionCandidate } from '../plan/retention.ts';
import { readManifest, type StepExecution } from './backup-files.ts';

/** What an interrupted backup left is taken away after so long. */
const ABANDONED_MS = 48 * 3_600_000;

/** `run` carries out the step that takes away what lies elsewhere. */
export async function* prune(step: PruneStep, run: (step: StartStep) => StepExecution): StepExecution {
  const { folder, rules, minKeep, forget } = step;
  const names = await readdir(folder).catch(() => []);
  for (const name of names.filter(one => one.startsWith('.') && /\.(partial|list)/.test(one))) {
    const age = Date.now() - (await stat(join(folder, name))).mtimeMs;
    if (age < ABANDONED_MS) continue;
    await rm(join(folder, name), { recursive: true, force: true });
    yield { text: `removed ${name}: left unfinished\n` };
  }
  for (const { name, keep, reason } of applyRetention(listBackups(folder, names), rules, minKeep, new Date())) {
    yield { text: `${keep ? 'keep' : 'prune'} ${name}: ${reason}\n` };
    if (keep) continue;
    // The manifest goes first: what has none is no backup, also if this is interrupted.
    if (forget) await rename(join(folder, `${name}.json`), join(folder, `${name}${FORGOTTEN}`));
    else await rm(join(folder, `${name}.json`), { force: true });
    await rm(join(folder, name), { recursive: true, force: true });
    await rm(join(folder, `${name}.sha256`), { force: true });
  }
  return forget ? yield* forgetRemote(folder, forget, run) : { outcome: 'succeeded' };
}

/** A manifest that is none any more; what it speaks of lies elsewhere still. */
const FORGOTTEN = '.forgotten';

async function* forgetRemote(
  folder: string,
  forget: NonNullable<PruneStep['forget']>,
  run: (step: StartStep) => StepExecution,
): StepExecution {
  const gone = (await readdir(folder)).filter(name => name.endsWith(FORGOTTEN));
  const { step, each, last, empty, also = [] } = forget;
  if (gone.length + also.length === 0) return { outcome: 'succeeded' };
  if (empty !== undefined) await mkdir(empty, { recursive: true, mode: 0o700 });
  const words = [...gone, ...also].flatMap(file => {
    const snapshot = readManifest(join(folder, file))?.snapshot ?? '';
    const name = file.endsWith(FORGOTTEN) ? file.slice(0, -FORGOTTEN.length) : file;
    return each.map(word => word.replaceAll('{name}', name).replaceAll('{snapshot}', snapshot));
  });
  const ending = yield* run({ ...step, argv: [...step.argv, ...words, ...last] });
  if (ending.outcome === 'succeeded') for (const file of gone) await rm(join(folder, file), { force: true });
  return ending;
}

/** The backups that have a manifest, in a listing of their folder. */
function listBackups(folder: string, names: string[]): RetentionCandidate[] {
  return names.flatMap(file => {
    if (!file.endsWith('.json') || file.startsWith('.')) return [];
    const manifest = readManifest(join(folder, file));
    if (!manifest) return [];
    const verified = manifest.verified_at !== undefined && !manifest.broken;
    return [{ name: file.slice(0, -5), at: manifest.at, verified, protected: manifest.protected === true }];
  });
}
