import { isDeepStrictEqual } from 'node:util';
import type { Deployment } from '../../protocol/command.ts';
import { graphOfCommand } from '../../protocol/graph.ts';
import { Refused } from '../../protocol/refusal.ts';
import type { Plan } from '../plan/plan.ts';
import type { DocumentResult, PlanResult, ProgressEvent, StepRunner } from '../plan/progress.ts';
import { refusals } from '../refusals.ts';
import type { DocumentProgress, RunStore, StoredRun } from '../store/runs.ts';
import { undoFinishedPlan } from './execute.ts';
import { sortTopologically } from './graph.ts';

export type UndoRequest = NonNullable<Deployment['undo']>;

const NOTHING_TO_UNDO: DocumentResult = { outcome: 'succeeded', changed: false };

/** What undoing needs of its run. */
interface UndoDeps {
  store: RunStore;
  stepRunner: StepRunner;
  /** How far an earlier agent had come with it. */
  past: Map<number, DocumentProgress>;
  appendPlan(document: number, plan: Plan): Promise<void>;
  appendAll(work: AsyncGenerator<ProgressEvent, PlanResult>): Promise<DocumentResult>;
  finishDocument(document: number, ending: DocumentResult): Promise<DocumentResult>;
  retryUntilStored<T>(work: () => T): Promise<T>;
}

/** Undoes documents of an earlier run, the last first, and stops where one can't be undone. What that run kept lies in its folder. */
export async function undoEarlierRun(
  command: Deployment,
  undo: UndoRequest,
  {
    store,
    stepRunner: hands,
    past,
    appendPlan: tellPlan,
    appendAll: hear,
    finishDocument: finished,
    retryUntilStored: surely,
  }: UndoDeps,
): Promise<(DocumentResult | undefined)[]> {
  const earlier = store.progress(undo.run);
  const endings: (DocumentResult | undefined)[] = [];
  for (const index of listUndoOrder(command, undo)) {
    const document = index + 1;
    const known = earlier.get(document);
    const mine = past.get(document);
    endings[index] = mine?.ending;
    if (mine?.ending || !known?.plan || known.ending?.outcome !== 'succeeded') continue;
    if (!mine) await tellPlan(document, describeUndoPlan(known.plan));
    const ended = { steps: [], images: [], files: { written: [], removed: [] }, ...known.ending };
    const work = undoFinishedPlan(known.plan, ended, { document, hands, ...(mine ? { past: mine.steps } : {}) });
    const ending = await finished(document, work ? await hear(work) : NOTHING_TO_UNDO);
    endings[index] = ending;
    if (ending.outcome === 'rolled-back')
      await surely(() => store.replaceResult(undo.run, document, { ...known.ending, ...ending }));
    if (ending.outcome !== 'rolled-back' && ending.outcome !== 'succeeded') break;
  }
  return endings;
}

/** The places of the documents to undo, the last first. */
function listUndoOrder(command: Deployment, { documents }: UndoRequest): number[] {
  const { nodes, mine } = graphOfCommand(command);
  return sortTopologically(nodes)
    .map(place => mine.indexOf(place))
    .filter(index => documents.includes(index + 1))
    .reverse();
}

/** What is told in place of the plan that is undone. */
function describeUndoPlan({ title, undo, late = [] }: Plan): Plan {
  return {
    title: `undo of: ${title}`,
    summary: 'What was there before comes back.',
    changes: [],
    steps: [...undo, ...late],
    undo: [],
    cleanup: [],
  };
}

/** Only a run that has ended, of the same sender and the same intents, is undone: these were judged. Throws `Refused`. */
export function checkUndo(command: Deployment, find: (run: string) => StoredRun | undefined, trust: string): void {
  const { undo, intents } = command;
  if (!undo) return;
  const run = find(undo.run);
  if (!run) throw new Refused(refusals.runUnknown(undo.run));
  if (run.trust !== trust) throw new Refused(refusals.notYourRun(undo.run));
  const notPossible = (why: string) => new Refused(refusals.undoNotPossible(undo.run, why));
  if (run.type !== 'run' || run.state !== 'ended') throw notPossible('it has not ended, or only looked');
  const carried = JSON.parse(run.command) as Deployment;
  if (carried.undo) throw notPossible('it undid another run');
  if (!isDeepStrictEqual(carried.intents, JSON.parse(JSON.stringify(intents))))
    throw notPossible('its intents are others');
}
