import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type DocumentOutcome, type GraphDocument, graphOf } from '../../intents/graph.ts';
import { executeGraph, type GraphDocuments } from './graph.ts';

type Keys = Partial<GraphDocument['intent']>;
interface Setup {
  /** By id; default: succeeded. */
  outcomes?: Record<string, DocumentOutcome>;
  subjects?: Record<string, string[]>;
  ended?: Record<string, DocumentOutcome>;
  unfinished?: string[];
  cancelAfter?: string;
  throws?: string;
}

/** Documents that only record when they are executed and undone. */
class RecordedDocuments implements GraphDocuments {
  readonly outcomes: (DocumentOutcome | undefined)[];
  readonly unfinished: number[];
  readonly calls: string[] = [];
  isCancelled = false;
  maxRunning = 0;
  #running = 0;
  readonly #ids: string[];
  readonly #setup: Setup;

  constructor(ids: string[], setup: Setup) {
    this.#ids = ids;
    this.#setup = setup;
    this.outcomes = ids.map(id => setup.ended?.[id]);
    this.unfinished = (setup.unfinished ?? []).map(id => ids.indexOf(id));
  }

  subjectsOf(node: number): string[] {
    const id = this.#ids[node] ?? '';
    return this.#setup.subjects?.[id] ?? [id];
  }

  async execute(node: number): Promise<DocumentOutcome> {
    const id = this.#ids[node] ?? '';
    this.calls.push(id);
    this.maxRunning = Math.max(this.maxRunning, ++this.#running);
    await sleep(5 + node);
    this.#running--;
    if (this.#setup.throws === id) throw new Error('broken');
    this.isCancelled ||= this.#setup.cancelAfter === id;
    return this.#setup.outcomes?.[id] ?? 'succeeded';
  }

  async undo(node: number): Promise<DocumentOutcome> {
    const call = `undo ${this.#ids[node]}`;
    this.calls.push(call);
    return this.#setup.outcomes?.[call] ?? 'rolled-back';
  }
}

/** Executes a graph of documents. Returns the calls in their order, and the outcomes by id. */
async function execute(graph: Record<string, Keys>, setup: Setup = {}) {
  const ids = Object.keys(graph);
  const nodes = graphOf(
    ids.map((id, index) => ({ name: 'g', document: index + 1, intent: { action: 'rollout', id, ...graph[id] } })),
  );
  const documents = new RecordedDocuments(ids, setup);
  await executeGraph(nodes, documents);
  const { calls, maxRunning, outcomes } = documents;
  return { calls, maxRunning, outcomes: Object.fromEntries(ids.map((id, node) => [id, outcomes[node]])) };
}

describe('the documents of a graph', () => {
  it('run in parallel up to max_parallel, each after the documents that it needs', async () => {
    const wide = {
      a: { needs: [] },
      b: { needs: [] },
      c: { needs: [] },
      d: { needs: [] },
      e: { needs: [] },
      f: { needs: ['a', 'b'] },
    };
    expect(await execute(wide)).toMatchObject({ maxRunning: 4, calls: ['a', 'b', 'c', 'd', 'e', 'f'] });
    expect((await execute({ ...wide, a: { needs: [], max_parallel: 2 } })).maxRunning).toBe(2);
    expect((await execute({ a: {}, b: {}, c: {} })).maxRunning).toBe(1);
  });

  it('never run at the same time if they lock the same subject', async () => {
    const wide = { a: { needs: [] }, b: { needs: [] }, c: { needs: [] } };
    const { maxRunning, calls } = await execute(wide, { subjects: { a: ['stack'], b: ['stack', 'vm'], c: ['vm'] } });
    expect({ maxRunning, calls }).toEqual({ maxRunning: 2, calls: ['a', 'c', 'b'] });
  });

  it('are undone by "on_failure: rollback", the last first, before documents with "if: failed" start', async () => {
    const { calls, outcomes } = await execute(
      {
        notify: { needs: ['web', 'app'], if: 'failed' },
        web: { needs: ['db'] },
        db: { needs: [] },
        app: { needs: ['web'], on_failure: 'rollback' },
        after: { needs: ['app'] },
      },
      { outcomes: { app: 'rolled-back' } },
    );
    expect(calls).toEqual(['db', 'web', 'app', 'undo web', 'undo db', 'notify']);
    expect(outcomes).toEqual({
      db: 'rolled-back',
      web: 'rolled-back',
      app: 'rolled-back',
      after: 'skipped',
      notify: 'succeeded',
    });
  });

  it('are undone only after the running ones have finished', async () => {
    const { calls } = await execute(
      { bad: { needs: [], on_failure: 'rollback' }, slow: { needs: [] } },
      { outcomes: { bad: 'failed' } },
    );
    expect(calls).toEqual(['bad', 'slow', 'undo slow']);
  });

  it('are undone once each, even if an undo fails or has nothing to do', async () => {
    const result = await execute(
      { a: {}, b: {}, c: { on_failure: 'rollback' } },
      { outcomes: { c: 'failed', 'undo b': 'failed', 'undo a': 'succeeded' } },
    );
    expect(result).toMatchObject({
      calls: ['a', 'b', 'c', 'undo b', 'undo a'],
      outcomes: { a: 'succeeded', b: 'failed', c: 'failed' },
    });
  });

  it('are resumed from the outcomes that an earlier agent stored', async () => {
    const graph = { a: {}, b: { needs: ['a'] }, c: { needs: ['a'] }, d: { needs: ['b', 'c'] } };
    expect((await execute(graph, { ended: { a: 'succeeded' }, unfinished: ['c'] })).calls).toEqual(['c', 'b', 'd']);
    const undoing = { a: {}, b: {}, c: { on_failure: 'rollback' as const } };
    const ended = { a: 'succeeded', b: 'rolled-back', c: 'failed' } as const;
    expect((await execute(undoing, { ended })).calls).toEqual(['undo a']);
  });

  it('do not start after the run was cancelled', async () => {
    const { calls, outcomes } = await execute(
      { a: {}, b: { if: 'always' } },
      { cancelAfter: 'a', outcomes: { a: 'cancelled' } },
    );
    expect({ calls, outcomes }).toEqual({ calls: ['a'], outcomes: { a: 'cancelled', b: undefined } });
  });

  it('end with the error that one of them throws', async () => {
    await expect(execute({ a: { needs: [] }, b: { needs: [] } }, { throws: 'a' })).rejects.toThrow('broken');
  });
});
