import { describe, expect, it } from 'vitest';
import { planOf, program } from '../../test/stand/steps.ts';
import type { Plan, Step } from '../plan/plan.ts';
import type { DocumentResult } from '../plan/progress.ts';
import { Redactor } from '../system/redactor.ts';
import { FIRST_DOCUMENT } from './document-index.ts';
import { RunDocuments, type RunDocumentsDeps } from './run-documents.ts';

describe('the plan of an earlier run', () => {
  it('is not undone if an older agent made it, because its undo would start what was never checked', async () => {
    const started: string[] = [];
    const documents = new RunDocuments({
      admitted: { command: { id: 'run-2' }, documents: [] },
      earlier: new Map(),
      redactor: new Redactor(),
      log: { appendResult: async (_: number, result: DocumentResult) => result },
      stepRunner: {
        // biome-ignore lint/correctness/useYield: the step prints nothing.
        async *run({ name }: Step) {
          started.push(name);
          return { outcome: 'succeeded' };
        },
      },
    } as unknown as RunDocumentsDeps);
    const check = { do: 'judge-config', name: 'check config' } as unknown as Step;
    const old: Plan = planOf([check, program('', { name: 'up', changes: true })], {
      undo: [program('', { name: 'up again', changes: true })],
    });
    const steps = [{ name: 'up', outcome: 'succeeded' as const, ms: 1, phase: 'do' as const }];
    const result = await documents.undoOfRun('run-1', FIRST_DOCUMENT, old, { outcome: 'succeeded', steps });
    expect(result).toMatchObject({ outcome: 'failed', code: 'undo-not-possible', changed: false });
    expect(started).toEqual([]);
  });
});
