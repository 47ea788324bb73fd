import { basename, dirname, join } from 'node:path';
import { messageOf } from '../../../protocol/refusal.ts';
import type { CheckBackupStep, ExpectEndingStep } from '../../plan/plan.ts';
import { openFile } from '../../system/safe-paths.ts';
import { cancelledResult, type StepExecution } from '../runner.ts';
import { readBackup } from './digest.ts';
import { brokenBackupResult, failStep, formatMib, markBroken, openGroup, readManifest } from './files.ts';

export async function* verifyBackup(step: CheckBackupStep, signal: AbortSignal): StepExecution {
  await using group = await openGroup(step);
  const path = join(step.folder, step.backup);
  const manifest = await readManifest(group, `${step.backup}.json`);
  if (!manifest) return brokenBackupResult(path, 'the manifest could not be read');
  // The copy is in a folder of the agent.
  const { at = path } = step;
  await using parent = step.at === undefined ? await openGroup(step) : await openGroup(agentFolder(step.at));
  let why: string;
  try {
    const content = await readBackup(parent, basename(at), signal);
    if (content.sha256 === manifest.sha256 && content.files === manifest.files) {
      yield { text: `${content.files} files, ${formatMib(content.bytes)}, unchanged since ${manifest.at}\n` };
      return { outcome: 'succeeded' };
    }
    why = `${content.files} files, sha256 ${content.sha256.slice(0, 12)}, not ${manifest.files} and ${manifest.sha256.slice(0, 12)}`;
  } catch (error) {
    if (signal.aborted) return cancelledResult(step.name);
    why = messageOf(error);
  }
  // The result stays the same if the destination is read-only.
  if (step.at === undefined) await markBroken(group, step.backup, why).catch(() => undefined);
  return brokenBackupResult(at, why);
}

function agentFolder(path: string): { folder: string; root: string } {
  return { folder: dirname(path), root: dirname(path) };
}

const TAIL_BYTES = 4096;

export async function* expectEnding({ path, root, text, failure, name }: ExpectEndingStep): StepExecution {
  const handle = await openFile(path, root);
  if (!handle) return failStep(failure.code, `"${name}": ${path} does not exist.`, failure.remedy);
  try {
    const { size } = await handle.stat();
    const { buffer, bytesRead } = await handle.read({
      buffer: Buffer.alloc(TAIL_BYTES),
      position: Math.max(0, size - TAIL_BYTES),
    });
    if (buffer.subarray(0, bytesRead).includes(text)) {
      yield { text: `${formatMib(size)}, complete\n` };
      return { outcome: 'succeeded' };
    }
    return failStep(failure.code, `"${name}": ${path} does not end with "${text}".`, failure.remedy);
  } finally {
    await handle.close();
  }
}
