import { isDeepStrictEqual } from 'node:util';
import type { Deployment } from '../../protocol/command.ts';
import { graphOfCommand } from '../../protocol/graph.ts';
import { Refused } from '../../protocol/refusal.ts';
import type { DocumentResult } from '../plan/progress.ts';
import { refusals } from '../refusals.ts';
import type { RunStore, StoredRun } from '../store/runs.ts';
import { type DocumentIndex, numberOf } from './document-index.ts';
import { sortTopologically } from './graph.ts';
import type { RunDocuments } from './run-documents.ts';

export type UndoTarget = NonNullable<Deployment['undo']>;

/**
 * Undoes documents of an earlier run, the last first, up to the first that cannot be undone. The earlier run's folder holds
 * the files that its steps kept.
 */
export async function undoEarlierRun(
  undo: UndoTarget,
  store: RunStore,
  documents: RunDocuments,
): Promise<(DocumentResult | undefined)[]> {
  const undone = store.progress(undo.run);
  const results: (DocumentResult | undefined)[] = [];
  for (const index of listUndoOrder(documents.admitted.command, undo)) {
    const { plan, ending } = undone.get(numberOf(index)) ?? {};
    results[index] = documents.earlierResult(index);
    if (results[index] || !plan || ending?.outcome !== 'succeeded') continue;
    const result = await documents.undoOfRun(undo.run, index, plan, ending);
    results[index] = result;
    if (result.outcome !== 'rolled-back' && result.outcome !== 'succeeded') break;
  }
  return results;
}

/** Returns the indexes of the documents to undo, the last first. */
function listUndoOrder(command: Deployment, { documents }: UndoTarget): DocumentIndex[] {
  const { nodes, mine } = graphOfCommand(command);
  return sortTopologically(nodes)
    .map(node => mine.indexOf(node) as DocumentIndex)
    .filter(index => documents.includes(numberOf(index)))
    .reverse();
}

/**
 * Allows the undoing of a run only if it has ended and had the same sender and the same intents: the rules admitted these.
 * Throws `Refused`.
 */
export function checkUndo(command: Deployment, find: (run: string) => StoredRun | undefined, trust: string): void {
  const { undo, intents } = command;
  if (!undo) return;
  const run = find(undo.run);
  if (!run) throw new Refused(refusals.runUnknown(undo.run));
  if (run.trust !== trust) throw new Refused(refusals.notYourRun(undo.run));
  const notPossible = (why: string) => new Refused(refusals.undoNotPossible(undo.run, why));
  if (run.type !== 'run') throw notPossible('it was a plan, which changed nothing');
  if (run.state !== 'ended') throw notPossible('it has not ended');
  const stored = JSON.parse(run.command) as Deployment;
  if (stored.undo) throw notPossible('it undid another run');
  if (!isDeepStrictEqual(stored.intents, JSON.parse(JSON.stringify(intents))))
    throw notPossible('its intents are different');
}
