import { type DocumentOutcome, decideNext, type GraphNode } from '../intents/graph.ts';
import type { Receipt } from '../protocol/receipt.ts';
import type { Refusal } from '../protocol/refusal.ts';
import type { Batch } from './batches.ts';

/** The result of a command: its host, its documents (by their places in the graph), and the receipt or the refusal. */
export interface CommandResult {
  host: string;
  places: number[];
  receipt?: Receipt;
  /** Set instead of a receipt if the agent refused or was not reached. */
  refusal?: Refusal;
}

/** Asks for a command to one host with these documents. */
export interface SendRequest {
  do: 'send';
  batch: Batch;
  host: string;
  places: number[];
  /** The outcomes of all documents that have ended so far. */
  ended: readonly (DocumentOutcome | undefined)[];
}

/** Asks for the end of a run that the job did not wait for. */
export interface RecallRequest {
  do: 'recall';
  sent: CommandResult;
}

/** Asks a host to undo these documents of a command that it carried out. */
export interface UndoRequest {
  do: 'undo';
  sent: CommandResult;
  places: number[];
}

export type CommandRequest = SendRequest | RecallRequest | UndoRequest;

/** Answers one request. */
interface CommandReport {
  request: CommandRequest;
  /** Undefined if a run was recalled and its outcome stays unknown. */
  result: CommandResult | undefined;
  /** True once the job is being stopped: nothing more starts. */
  isCancelled: boolean;
}

export interface OrchestrateOptions {
  nodes: readonly GraphNode[];
  batches: readonly Batch[];
  /** True for plans and dry runs: every host gets its command, whatever the others answer. */
  looksOnly: boolean;
}

/** The outcome of each document, and all results in the order in which they arrived. */
export interface OrchestrateResult {
  ended: (DocumentOutcome | undefined)[];
  sent: CommandResult[];
}

/** A batch on its way through the waves of its hosts. */
interface BatchProgress {
  places: number[];
  /** The running wave, then the later ones. */
  waves: string[][];
  results: Map<string, CommandResult>;
}

type Orchestration<T> = Generator<CommandRequest[], T, CommandReport>;

/**
 * Decides which commands are sent next for a graph over several hosts. It does nothing itself: it yields the requests that
 * may start now, and takes the report of one request at a time. A batch starts when the documents before it have ended, and
 * passes its hosts wave by wave until the first bad one. A failure stops what needs it; commands that run elsewhere finish.
 */
export function* orchestrate({ nodes, batches, looksOnly }: OrchestrateOptions): Orchestration<OrchestrateResult> {
  const ended: (DocumentOutcome | undefined)[] = nodes.map(() => undefined);
  const sent: CommandResult[] = [];
  const undone = new Set<CommandResult>();
  const open = new Set(batches);
  const running = new Map<Batch, BatchProgress>();
  let isCancelled = false;
  let requests: CommandRequest[] = [];

  const start = (batch: Batch, places: number[]): SendRequest[] => {
    open.delete(batch);
    if (places.length === 0) return [];
    const progress = { places, waves: batch.target.waves, results: new Map() };
    running.set(batch, progress);
    return sendsOf(batch, progress, ended);
  };

  for (;;) {
    if (!looksOnly) {
      if (running.size === 0 && !isCancelled) isCancelled = yield* undoFailedFiles(nodes, ended, sent, undone);
      skipBlocked(nodes, batches, running, ended);
    }
    for (const batch of isCancelled ? [] : [...open]) {
      if (looksOnly && running.size > 0) break;
      const places = batch.places.filter(place => ended[place] === undefined);
      if (looksOnly || places.length === 0 || isReady(nodes, batch, ended)) requests.push(...start(batch, places));
    }
    if (running.size === 0) return { ended, sent };

    const report = yield requests;
    requests = [];
    isCancelled = report.isCancelled;
    const { request, result } = report;
    const progress = request.do === 'send' ? running.get(request.batch) : undefined;
    if (request.do !== 'send' || !progress || !result) throw new RangeError('A report answers no request that is open');
    sent.push(result);
    progress.results.set(request.host, result);
    const [wave = [], ...later] = progress.waves;
    if (!wave.every(host => progress.results.has(host))) continue;
    const isWaveGood = wave.every(host => isGood(progress.results.get(host)));
    if (later.length > 0 && !isCancelled && (looksOnly || isWaveGood)) {
      progress.waves = later;
      requests = sendsOf(request.batch, progress, ended);
    } else {
      const hosts = request.batch.target.waves.flat();
      const results = hosts.flatMap(host => progress.results.get(host) ?? []);
      for (const place of progress.places) ended[place] = outcomeOf(place, results);
      running.delete(request.batch);
    }
  }
}

/** Returns the requests for the wave that is next. */
function sendsOf(
  batch: Batch,
  { places, waves }: BatchProgress,
  ended: readonly (DocumentOutcome | undefined)[],
): SendRequest[] {
  return (waves[0] ?? []).map(host => ({ do: 'send', batch, host, places, ended: [...ended] }));
}

function isReady(
  nodes: readonly GraphNode[],
  { places }: Batch,
  ended: readonly (DocumentOutcome | undefined)[],
): boolean {
  return places.every(place =>
    nodes[place]?.after.every(before => places.includes(before) || ended[before] !== undefined),
  );
}

function isGood(result: CommandResult | undefined): boolean {
  return result?.receipt?.outcome === 'succeeded' || result?.receipt?.outcome === 'planned';
}

/** Marks the documents that can't start any more as skipped. The agent decides about those that were sent to it. */
function skipBlocked(
  nodes: readonly GraphNode[],
  batches: readonly Batch[],
  running: ReadonlyMap<Batch, unknown>,
  ended: (DocumentOutcome | undefined)[],
): void {
  const waiting = batches.filter(batch => !running.has(batch)).flatMap(({ places }) => places);
  for (let changed = true; changed; ) {
    changed = false;
    for (const place of waiting) {
      if (ended[place] !== undefined || decideNext(nodes, place, ended).do !== 'skip') continue;
      ended[place] = 'skipped';
      changed = true;
    }
  }
}

/** Returns the outcome of a document over all its hosts: a bad one if there is any. */
function outcomeOf(place: number, results: readonly CommandResult[]): DocumentOutcome {
  const outcomes = results.map(result => outcomeAt(place, result));
  return (
    outcomes.find(outcome => outcome !== 'succeeded' && outcome !== 'planned' && outcome !== 'skipped') ??
    outcomes.find(outcome => outcome === 'skipped') ??
    outcomes[0] ??
    'skipped'
  );
}

/** Returns the outcome of a document on one host. A refused command counts as failed. */
function outcomeAt(place: number, { places, receipt }: CommandResult): DocumentOutcome {
  if (!receipt) return 'failed';
  // The receipt of an agent that could not resume the run has no outcome for its documents.
  return receipt.documents[places.indexOf(place)]?.outcome ?? receipt.outcome;
}

/**
 * Undoes each file of which a document with "on_failure: rollback" has failed: all its documents that had succeeded, the
 * last one first. An agent has already undone the documents that it carried out in the same command as the failed one.
 * Runs alone, so each report answers the request before it. Returns whether the job is being stopped.
 */
function* undoFailedFiles(
  nodes: readonly GraphNode[],
  ended: (DocumentOutcome | undefined)[],
  sent: CommandResult[],
  undone: Set<CommandResult>,
): Orchestration<boolean> {
  let isCancelled = false;
  const hasFailed = (result: CommandResult, place: number) =>
    ['failed', 'rolled-back', 'cancelled'].includes(outcomeAt(place, result));
  const failedPlaces = (result: CommandResult) =>
    result.places.filter(place => nodes[place]?.onFailure === 'rollback' && hasFailed(result, place));
  const files = new Set(sent.flatMap(failedPlaces).map(place => nodes[place]?.file));
  const isToUndo = (place: number) => {
    const { file, when } = nodes[place] as GraphNode;
    return files.has(file) && (when === undefined || when === 'succeeded');
  };
  // A run that the job did not wait for may still succeed, next to what is undone here.
  for (const result of sent.filter(({ refusal, places }) => refusal?.code === 'timeout' && places.some(isToUndo))) {
    if (undone.has(result)) continue;
    undone.add(result);
    const report = yield [{ do: 'recall', sent: result }];
    isCancelled = report.isCancelled;
    if (report.result) sent.push(report.result);
  }
  const due = sent
    .filter(result => !undone.has(result) && failedPlaces(result).length === 0)
    .map(result => ({
      result,
      places: result.places.filter(place => isToUndo(place) && outcomeAt(place, result) === 'succeeded'),
    }))
    .filter(({ places }) => places.length > 0)
    .reverse();
  for (const { result, places } of due) {
    undone.add(result);
    const report = yield [{ do: 'undo', sent: result, places }];
    isCancelled = report.isCancelled;
    if (!report.result) continue;
    undone.add(report.result);
    sent.push(report.result);
    for (const place of places) {
      const outcome = outcomeAt(place, report.result);
      if (outcome !== 'succeeded') ended[place] = outcome;
    }
  }
  return isCancelled;
}
