import { decide, type Ended, type Node } from '../intents/graph.ts';
import type { Receipt } from '../protocol/receipt.ts';
import type { Refusal } from '../protocol/refusal.ts';
import type { Batch } from './batches.ts';

/** A command that was sent: to which host, with which documents (their places), and how that ended. */
export interface CommandResult {
  host: string;
  places: number[];
  receipt?: Receipt;
  /** In place of a receipt: the agent would not, or can't be reached. */
  refusal?: Refusal;
}

export interface OrchestrateOptions {
  nodes: readonly Node[];
  batches: readonly Batch[];
  /** What only looks is sent to every host, whatever the others say. */
  looksOnly: boolean;
  /** The job is being stopped: nothing more begins. */
  isCancelled(): boolean;
  /** Sends these documents to that host. `ended`: how others of the graph have ended. */
  send(host: string, places: number[], ended: readonly (Ended | undefined)[]): Promise<CommandResult>;
  /** Has a host undo these documents of what was sent to it. */
  undo(sent: CommandResult, places: number[]): Promise<CommandResult>;
  /** Has a host end what the job has not waited for. Undefined where its end can't be learnt. */
  recall(sent: CommandResult): Promise<CommandResult | undefined>;
}

/** How each document has ended, and everything that was sent, in the order of its end. */
export interface OrchestrateResult {
  ended: (Ended | undefined)[];
  sent: CommandResult[];
}

/**
 * Drives a graph over several hosts: each batch begins when what its documents come after has ended elsewhere. A fleet is
 * gone through wave by wave, until the first bad one. What fails stops what needs it; what goes on elsewhere comes to its end.
 */
export async function orchestrate(driving: OrchestrateOptions): Promise<OrchestrateResult> {
  const { nodes, batches, looksOnly, isCancelled, send } = driving;
  const ended: (Ended | undefined)[] = nodes.map(() => undefined);
  const sent: CommandResult[] = [];
  const open = new Set(batches);
  const going = new Map<Batch, Promise<void>>();

  const carry = async (batch: Batch, places: number[]): Promise<void> => {
    const mine: CommandResult[] = [];
    for (const hosts of batch.target.waves) {
      const wave = await Promise.all(
        hosts.map(async host => {
          const one = await send(host, places, ended);
          sent.push(one);
          return one;
        }),
      );
      mine.push(...wave);
      if ((!looksOnly && !wave.every(isGood)) || isCancelled()) break;
    }
    for (const place of places) ended[place] = outcomeOf(place, mine);
  };
  const isReady = ({ places }: Batch) =>
    places.every(place => nodes[place]?.after.every(before => places.includes(before) || ended[before] !== undefined));

  if (looksOnly) {
    for (const batch of batches) if (!isCancelled()) await carry(batch, batch.places);
    return { ended, sent };
  }
  const undone = new Set<CommandResult>();
  for (;;) {
    if (going.size === 0 && !isCancelled()) await undoAll(driving, ended, sent, undone);
    passOver(nodes, batches, going, ended);
    for (const batch of isCancelled() ? [] : open) {
      const places = batch.places.filter(place => ended[place] === undefined);
      if (places.length > 0 && !isReady(batch)) continue;
      open.delete(batch);
      if (places.length === 0) continue;
      const work = carry(batch, places).finally(() => going.delete(batch));
      work.catch(() => undefined);
      going.set(batch, work);
    }
    if (going.size === 0) return { ended, sent };
    await Promise.race(going.values());
  }
}

function isGood({ receipt }: CommandResult): boolean {
  return receipt?.outcome === 'succeeded' || receipt?.outcome === 'planned';
}

/** What can't begin any more, as far as is known; of what has been sent the agent decides. */
function passOver(
  nodes: readonly Node[],
  batches: readonly Batch[],
  going: ReadonlyMap<Batch, unknown>,
  ended: (Ended | undefined)[],
): void {
  const waiting = batches.filter(batch => !going.has(batch)).flatMap(({ places }) => places);
  for (let moved = true; moved; ) {
    moved = false;
    for (const place of waiting) {
      if (ended[place] !== undefined || decide(nodes, place, ended).do !== 'skip') continue;
      ended[place] = 'skipped';
      moved = true;
    }
  }
}

/** How a document has ended over all its hosts: badly where it has on one. */
function outcomeOf(place: number, sent: readonly CommandResult[]): Ended {
  const outcomes = sent.map(one => outcomeAt(place, one));
  return (
    outcomes.find(one => one !== 'succeeded' && one !== 'planned' && one !== 'skipped') ??
    outcomes.find(one => one === 'skipped') ??
    outcomes[0] ??
    'skipped'
  );
}

/** How a document has ended on one host. What was refused has failed. */
export function outcomeAt(place: number, { places, receipt }: CommandResult): Ended {
  if (!receipt) return 'failed';
  // An agent that could not carry it on says of no document how it ended.
  return receipt.documents[places.indexOf(place)]?.outcome ?? receipt.outcome;
}

/**
 * Where a document has failed that says "on_failure: rollback", everything of its file that had succeeded is undone, the
 * last first. What its own agent carried with it that agent has undone already.
 */
async function undoAll(
  { nodes, undo, recall }: OrchestrateOptions,
  ended: (Ended | undefined)[],
  sent: CommandResult[],
  undone: Set<CommandResult>,
): Promise<void> {
  const hasFailed = (one: CommandResult, place: number) =>
    ['failed', 'rolled-back', 'cancelled'].includes(outcomeAt(place, one));
  const asks = (one: CommandResult) =>
    one.places.filter(place => nodes[place]?.onFailure === 'rollback' && hasFailed(one, place));
  const files = new Set(sent.flatMap(asks).map(place => nodes[place]?.file));
  const isOf = (place: number) => {
    const { file, when } = nodes[place] as Node;
    return files.has(file) && (when === undefined || when === 'succeeded');
  };
  // What the job did not wait for may still come to a good end, beside what is undone here.
  for (const one of sent.filter(({ refusal, places }) => refusal?.code === 'timeout' && places.some(isOf))) {
    if (undone.has(one)) continue;
    undone.add(one);
    const recalled = await recall(one);
    if (recalled) sent.push(recalled);
  }
  const due = sent
    .filter(one => !undone.has(one) && asks(one).length === 0)
    .map(one => ({ one, places: one.places.filter(place => isOf(place) && outcomeAt(place, one) === 'succeeded') }))
    .filter(({ places }) => places.length > 0)
    .reverse();
  for (const { one, places } of due) {
    undone.add(one);
    const result = await undo(one, places);
    undone.add(result);
    sent.push(result);
    for (const place of places) {
      const outcome = outcomeAt(place, result);
      if (outcome !== 'succeeded') ended[place] = outcome;
    }
  }
}
