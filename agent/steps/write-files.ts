import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '../plan/failure.ts';
import type { FileChange, RestoreStep, WriteStep } from '../plan/plan.ts';
import { type ChangedFile, changeFiles, restoreFiles } from '../system/file-changes.ts';
import { shippedPath } from './run-folder.ts';
import { failedResult, type StepContext, type StepExecution } from './runner.ts';

export function runWrite(step: WriteStep, context: StepContext): StepExecution {
  const read = (change: FileChange) => readContent(change, context.runDir);
  return reportChanges(step.name, changeFiles(step.changes, keptFolder(context, step.name), read));
}

export function runRestore(step: RestoreStep, context: StepContext): StepExecution {
  return reportChanges(step.name, restoreFiles(keptFolder(context, step.of)));
}

/** Returns the folder in which a `write` step keeps the files that it replaced. */
function keptFolder({ runDir, document }: StepContext, step: string): string {
  return join(runDir, 'kept', `${document}-${step.replaceAll(/[^a-z0-9]+/g, '-')}`);
}

async function readContent(change: FileChange, runDir: string): Promise<Buffer> {
  if ('remove' in change) return Buffer.alloc(0);
  const { content } = change;
  if ('text' in content) return Buffer.from(content.text);
  return readFile('file' in content ? content.file : shippedPath(runDir, content.shipped));
}

async function* reportChanges(step: string, changes: AsyncGenerator<ChangedFile>): StepExecution {
  const files = { written: new Set<string>(), removed: new Set<string>() };
  try {
    for await (const { path, change } of changes) {
      if (!files[change].has(path)) yield { text: `${change} ${path}\n` };
      files[change].add(path);
    }
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const { code, message, remedy } = error;
    return failedResult({ code, message: `"${step}": ${message}`, remedy });
  }
  return { outcome: 'succeeded', files: { written: [...files.written], removed: [...files.removed] } };
}
