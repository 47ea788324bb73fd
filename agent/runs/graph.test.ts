import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type DocumentOutcome, type GraphDocument, graphOf } from '../../intents/graph.ts';
import { executeGraph } from './graph.ts';

type Keys = Partial<GraphDocument['intent']>;
interface Trial {
  /** By id; succeeded otherwise. */
  outcomes?: Record<string, DocumentOutcome>;
  subjects?: Record<string, string[]>;
  ended?: Record<string, DocumentOutcome>;
  begun?: string[];
  cancelAfter?: string;
  broken?: string;
}

/** Carries out a graph of documents and tells what happened, in order. */
async function carry(documents: Record<string, Keys>, trial: Trial = {}) {
  const ids = Object.keys(documents);
  const nodes = graphOf(
    ids.map((id, index) => ({ name: 'g', document: index + 1, intent: { action: 'rollout', id, ...documents[id] } })),
  );
  const told: string[] = [];
  let now = 0;
  let most = 0;
  let isCancelled = false;
  const ended = ids.map(id => trial.ended?.[id]);
  await executeGraph(nodes, {
    ended,
    begun: new Set((trial.begun ?? []).map(id => ids.indexOf(id))),
    subjects: ids.map(id => trial.subjects?.[id] ?? [id]),
    isCancelled: () => isCancelled,
    async execute(place) {
      const id = ids[place] ?? '';
      told.push(id);
      most = Math.max(most, ++now);
      await sleep(5 + place);
      now--;
      if (trial.broken === id) throw new Error('broken');
      isCancelled ||= trial.cancelAfter === id;
      return trial.outcomes?.[id] ?? 'succeeded';
    },
    async undo(place) {
      told.push(`undo ${ids[place]}`);
      return trial.outcomes?.[`undo ${ids[place]}`] ?? 'rolled-back';
    },
  });
  return { told, most, ended: Object.fromEntries(ids.map((id, place) => [id, ended[place]])) };
}

describe('the documents of a graph', () => {
  it('go on side by side, as many as max_parallel says, each after what it needs', async () => {
    const wide = {
      a: { needs: [] },
      b: { needs: [] },
      c: { needs: [] },
      d: { needs: [] },
      e: { needs: [] },
      f: { needs: ['a', 'b'] },
    };
    expect(await carry(wide)).toMatchObject({ most: 4, told: ['a', 'b', 'c', 'd', 'e', 'f'] });
    expect((await carry({ ...wide, a: { needs: [], max_parallel: 2 } })).most).toBe(2);
    expect((await carry({ a: {}, b: {}, c: {} })).most).toBe(1);
  });

  it('that lock the same never go on at the same time', async () => {
    const wide = { a: { needs: [] }, b: { needs: [] }, c: { needs: [] } };
    const { most, told } = await carry(wide, { subjects: { a: ['stack'], b: ['stack', 'vm'], c: ['vm'] } });
    expect([most, told]).toEqual([2, ['a', 'c', 'b']]);
  });

  it('are undone by "rollback", the last first, before what asks for failures begins', async () => {
    const { told, ended } = await carry(
      {
        notify: { needs: ['web', 'app'], if: 'failed' },
        web: { needs: ['db'] },
        db: { needs: [] },
        app: { needs: ['web'], on_failure: 'rollback' },
        after: { needs: ['app'] },
      },
      { outcomes: { app: 'rolled-back' } },
    );
    expect(told).toEqual(['db', 'web', 'app', 'undo web', 'undo db', 'notify']);
    expect(ended).toEqual({
      db: 'rolled-back',
      web: 'rolled-back',
      app: 'rolled-back',
      after: 'skipped',
      notify: 'succeeded',
    });
  });

  it('that go on are waited for before anything is undone', async () => {
    const { told } = await carry(
      { bad: { needs: [], on_failure: 'rollback' }, slow: { needs: [] } },
      { outcomes: { bad: 'failed' } },
    );
    expect(told).toEqual(['bad', 'slow', 'undo slow']);
  });

  it('are undone once each, also where that fails or there is nothing to undo', async () => {
    const { told, ended } = await carry(
      { a: {}, b: {}, c: { on_failure: 'rollback' } },
      { outcomes: { c: 'failed', 'undo b': 'failed', 'undo a': 'succeeded' } },
    );
    expect([told, ended]).toEqual([['a', 'b', 'c', 'undo b', 'undo a'], { a: 'succeeded', b: 'failed', c: 'failed' }]);
  });

  it('are taken up where an earlier agent left them', async () => {
    const graph = { a: {}, b: { needs: ['a'] }, c: { needs: ['a'] }, d: { needs: ['b', 'c'] } };
    expect((await carry(graph, { ended: { a: 'succeeded' }, begun: ['c'] })).told).toEqual(['c', 'b', 'd']);
    // It was undoing: what is undone already stays so.
    const undoing = { a: {}, b: {}, c: { on_failure: 'rollback' as const } };
    const ended = { a: 'succeeded', b: 'rolled-back', c: 'failed' } as const;
    expect((await carry(undoing, { ended })).told).toEqual(['undo a']);
  });

  it('that have not begun stay so when the run is cancelled', async () => {
    const { told, ended } = await carry(
      { a: {}, b: { if: 'always' } },
      { cancelAfter: 'a', outcomes: { a: 'cancelled' } },
    );
    expect([told, ended]).toEqual([['a'], { a: 'cancelled', b: undefined }]);
  });

  it('end with what one of them throws', async () => {
    await expect(carry({ a: { needs: [] }, b: { needs: [] } }, { broken: 'a' })).rejects.toThrow('broken');
  });
});
