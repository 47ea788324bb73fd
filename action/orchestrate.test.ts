import { describe, expect, it } from 'vitest';
import { type DocumentOutcome, graphOf } from '../intents/graph.ts';
import type { Outcome } from '../protocol/event.ts';
import type { Receipt } from '../protocol/receipt.ts';
import { batchesOf } from './batches.ts';
import { type CommandRequest, type CommandResult, orchestrate } from './orchestrate.ts';

const receipt = (outcome: Outcome, outcomes: Outcome[] = [outcome]): Receipt => ({
  ...{ run: 'r', agent: 'a', outcome, changed: true, events: 0, events_digest: '', started_at: '', finished_at: '' },
  documents: outcomes.map((outcome, index) => ({
    document: index + 1,
    name: 'it',
    action: 'rollout',
    stack: 's',
    outcome,
    steps: [],
    images: [],
    files: { written: [], removed: [] },
  })),
});
const timeout = { code: 'timeout', message: '', remedy: '' };

interface Document {
  /** The hosts, in waves. */
  waves: string[][];
  onFailure?: 'stop' | 'rollback' | 'continue';
  needs?: string[];
  id?: string;
}

interface Scenario {
  documents: Document[];
  looksOnly?: boolean;
  /** The outcomes by host, `succeeded` by default. `unreachable`: no receipt because of a time limit. */
  answers?: Record<string, Outcome | 'unreachable'>;
  /** The outcome of a recalled run; undefined if that stays unknown. */
  recalled?: Outcome;
  /** The host whose result comes with a cancelled job. */
  cancelledAt?: string;
  /** Returns the index of the open request that is answered next; the oldest one by default. */
  next?: (open: CommandRequest[]) => number;
}

const hostOf = (request: CommandRequest) => (request.do === 'send' ? request.host : request.sent.host);

/** Answers every request of an orchestration. Returns the requests by the step in which they came, and the outcomes. */
function play(scenario: Scenario): { steps: string[][]; ended: (DocumentOutcome | undefined)[]; sent: string[] } {
  const { documents, answers = {}, recalled, cancelledAt, next = () => 0 } = scenario;
  const nodes = graphOf(
    documents.map(({ id, needs, onFailure = 'stop' }, index) => ({
      name: 'it',
      document: index + 1,
      intent: { action: 'rollout', on_failure: onFailure, ...(id ? { id } : {}), ...(needs ? { needs } : {}) },
    })),
  );
  const targets = documents.map(({ waves }) => ({ key: JSON.stringify(waves), waves }));
  const orchestration = orchestrate({
    nodes,
    batches: batchesOf(nodes, targets),
    looksOnly: scenario.looksOnly ?? false,
  });
  const steps: string[][] = [];
  const open: CommandRequest[] = [];
  let step = orchestration.next();
  while (!step.done) {
    steps.push(step.value.map(request => `${request.do} ${hostOf(request)}`));
    open.push(...step.value);
    const [request] = open.splice(next(open), 1) as [CommandRequest];
    step = orchestration.next({ request, result: answer(request), isCancelled: hostOf(request) === cancelledAt });
  }
  return { steps, ended: step.value.ended, sent: step.value.sent.map(({ host }) => host) };

  function answer(request: CommandRequest): CommandResult | undefined {
    const host = hostOf(request);
    const places = request.do === 'send' ? request.places : request.sent.places;
    if (request.do === 'undo') return { host, places, receipt: receipt('rolled-back') };
    if (request.do === 'recall') return recalled && { host, places, receipt: receipt(recalled) };
    const outcome = answers[host] ?? 'succeeded';
    return outcome === 'unreachable'
      ? { host, places, refusal: timeout }
      : {
          host,
          places,
          receipt: receipt(
            outcome,
            places.map(() => outcome),
          ),
        };
  }
}

/** Two documents, each for a host of its own; the job does not wait for the second host. Returns what was recalled and undone, in order. */
function recallsAndUndos(onFailure: 'stop' | 'rollback', recalled: Outcome | undefined): string[] {
  const { steps } = play({
    documents: ['one', 'two'].map(host => ({ waves: [[host]], onFailure })),
    answers: { two: 'unreachable' },
    ...(recalled ? { recalled } : {}),
  });
  return steps.flat().filter(request => !request.startsWith('send'));
}

describe('a run that the job did not wait for', () => {
  it('is recalled before anything is undone if its file says "on_failure: rollback"', () => {
    expect(recallsAndUndos('rollback', 'cancelled')).toEqual(['recall two', 'undo one']);
  });

  it('is undone like the others, the last one first, if it had succeeded before it was recalled', () => {
    expect(recallsAndUndos('rollback', 'succeeded')).toEqual(['recall two', 'undo two', 'undo one']);
  });

  it('does not keep the others from being undone if its outcome stays unknown', () => {
    expect(recallsAndUndos('rollback', undefined)).toEqual(['recall two', 'undo one']);
  });

  it('continues if its file does not say "on_failure: rollback"', () => {
    expect(recallsAndUndos('stop', 'cancelled')).toEqual([]);
  });
});

describe('the waves of a fleet', () => {
  const fleet = { waves: [['canary'], ['a', 'b'], ['c']] };

  it('start one after another, all hosts of a wave at once', () => {
    expect(play({ documents: [fleet] })).toEqual({
      steps: [['send canary'], ['send a', 'send b'], [], ['send c']],
      ended: ['succeeded'],
      sent: ['canary', 'a', 'b', 'c'],
    });
  });

  it('end with a canary that fails', () => {
    expect(play({ documents: [fleet], answers: { canary: 'failed' } })).toEqual({
      steps: [['send canary']],
      ended: ['failed'],
      sent: ['canary'],
    });
  });

  it('end after the first wave with a host that was not reached, and its other hosts finish', () => {
    expect(play({ documents: [fleet], answers: { a: 'unreachable' } })).toEqual({
      steps: [['send canary'], ['send a', 'send b'], []],
      ended: ['failed'],
      sent: ['canary', 'a', 'b'],
    });
  });

  it('all get a plan or a dry run, also after a host that fails', () => {
    expect(play({ documents: [fleet], answers: { canary: 'failed', c: 'planned' }, looksOnly: true })).toEqual({
      steps: [['send canary'], ['send a', 'send b'], [], ['send c']],
      ended: ['failed'],
      sent: ['canary', 'a', 'b', 'c'],
    });
  });
});

describe('the batches of a graph', () => {
  const two = [
    { id: 'left', waves: [['one']] },
    { id: 'right', waves: [['two']], needs: [] },
    { waves: [['three']], needs: ['left', 'right'] },
  ];

  it('run at the same time if neither needs the other, and the next one waits for both', () => {
    expect(play({ documents: two, next: open => open.length - 1 })).toEqual({
      steps: [['send one', 'send two'], [], ['send three']],
      ended: ['succeeded', 'succeeded', 'succeeded'],
      sent: ['two', 'one', 'three'],
    });
  });

  it('finish on their hosts after another one has failed, and what needs that one is skipped', () => {
    expect(play({ documents: two, answers: { one: 'failed' } })).toEqual({
      steps: [['send one', 'send two'], []],
      ended: ['failed', 'succeeded', 'skipped'],
      sent: ['one', 'two'],
    });
  });

  it('run one after another in a plan or a dry run', () => {
    expect(play({ documents: two, looksOnly: true }).steps).toEqual([['send one'], ['send two'], ['send three']]);
  });

  it('are undone in the reverse order of their results, never while another one still runs', () => {
    const documents = two.map(document => ({ ...document, onFailure: 'rollback' as const }));
    expect(play({ documents, answers: { three: 'failed' }, next: open => open.length - 1 })).toEqual({
      steps: [['send one', 'send two'], [], ['send three'], ['undo one'], ['undo two']],
      ended: ['rolled-back', 'rolled-back', 'failed'],
      sent: ['two', 'one', 'three', 'one', 'two'],
    });
  });
});

describe('a cancelled job', () => {
  it('starts no further wave, no further batch and no undo', () => {
    const documents: Document[] = [
      { waves: [['a'], ['b']], onFailure: 'rollback' },
      { waves: [['c']], onFailure: 'rollback' },
    ];
    expect(play({ documents, cancelledAt: 'a' })).toEqual({
      steps: [['send a']],
      ended: ['succeeded', undefined],
      sent: ['a'],
    });
    expect(play({ documents, answers: { c: 'failed' }, cancelledAt: 'c' }).steps).toEqual([
      ['send a'],
      ['send b'],
      ['send c'],
    ]);
  });
});
