import { describe, expect, it } from 'vitest';
import { graphOf } from '../intents/graph.ts';
import type { Outcome } from '../protocol/event.ts';
import type { Receipt } from '../protocol/receipt.ts';
import { type CommandResult, orchestrate } from './orchestrate.ts';

const receipt = (outcome: Outcome): Receipt => ({
  ...{ run: 'r', agent: 'a', outcome, changed: true, events: 0, events_digest: '', started_at: '', finished_at: '' },
  documents: [
    {
      document: 1,
      name: 'it',
      action: 'rollout',
      stack: 's',
      outcome,
      steps: [],
      images: [],
      files: { written: [], removed: [] },
    },
  ],
});

/** Two documents, each for a host of its own; the second host is not waited for. What was undone and called back, in order. */
async function driven(onFailure: 'stop' | 'rollback', recalled: Outcome | undefined): Promise<string[]> {
  const told: string[] = [];
  const documents = [1, 2].map(document => ({
    name: 'it',
    document,
    intent: { action: 'rollout', on_failure: onFailure },
  }));
  const timeout = { code: 'timeout', message: '', remedy: '' };
  await orchestrate({
    nodes: graphOf(documents),
    batches: ['one', 'two'].map((host, place) => ({ target: { key: host, waves: [[host]] }, places: [place] })),
    looksOnly: false,
    isCancelled: () => false,
    send: async (host, places): Promise<CommandResult> =>
      host === 'one' ? { host, places, receipt: receipt('succeeded') } : { host, places, refusal: timeout },
    undo: async sent => {
      told.push(`undo ${sent.host}`);
      return { ...sent, receipt: receipt('rolled-back') };
    },
    recall: async sent => {
      told.push(`recall ${sent.host}`);
      return recalled && { host: sent.host, places: sent.places, receipt: receipt(recalled) };
    },
  });
  return told;
}

describe('a run that was not waited for', () => {
  it('is called back before anything is undone, where the file says "rollback"', async () => {
    expect(await driven('rollback', 'cancelled')).toEqual(['recall two', 'undo one']);
  });

  it('that had come to a good end after all is undone like the others, the last first', async () => {
    expect(await driven('rollback', 'succeeded')).toEqual(['recall two', 'undo two', 'undo one']);
  });

  it('whose end can’t be learnt keeps nothing else from being undone', async () => {
    expect(await driven('rollback', undefined)).toEqual(['recall two', 'undo one']);
  });

  it('goes on where the file does not say so', async () => {
    expect(await driven('stop', 'cancelled')).toEqual([]);
  });
});
