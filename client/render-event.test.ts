import { describe, expect, it } from 'vitest';
import type { AnyEvent, EventBody } from '../protocol/event.ts';
import type { Receipt } from '../protocol/receipt.ts';
import { renderEvent, renderReceipt, stepNameOf } from './render-event.ts';

const event = (happening: EventBody | { kind: string; [field: string]: unknown }) =>
  ({ type: 'event', n: 1, at: '', ...happening }) as AnyEvent;
const plan = event({
  kind: 'planned',
  document: 1,
  title: 'rollout web',
  summary: '1 service changes.',
  changes: [{ subject: 'web', change: 'recreate', details: ['image web:1 → web:2', 'port 80'] }],
  steps: [{ name: 'up', text: 'docker compose up' }],
});

describe('an event', () => {
  it.each<[string, EventBody, string[]]>([
    ['waiting', { kind: 'waiting', for: 'r1', what: 'stack web' }, ['waiting for run r1, which holds stack web']],
    ['note', { kind: 'note', level: 'info', text: 'look here' }, ['look here']],
    ['output', { kind: 'output', document: 1, step: 'up', text: 'a\nb' }, []],
    ['document-finished', { kind: 'document-finished', document: 1, outcome: 'failed' }, []],
    [
      'step-finished',
      { kind: 'step-finished', document: 1, step: 'up', outcome: 'failed', ms: 1234, message: 'exit 1' },
      ['✗ up (1.2 s): exit 1'],
    ],
    [
      'step-finished of a skipped step',
      { kind: 'step-finished', document: 1, step: 'up', outcome: 'skipped', ms: 0 },
      ['– up (0.0 s)'],
    ],
  ])('has these lines: %s', (_, happening, lines) => {
    expect(renderEvent(event(happening))).toEqual(lines);
  });

  it.each<['do' | 'undo' | 'cleanup', string]>([
    ['do', 'up'],
    ['undo', 'undo: up'],
    ['cleanup', 'cleanup: up'],
  ])('of a started step names its phase %s', (phase, name) => {
    const started = event({ kind: 'step-started', document: 1, step: 'up', text: 'docker compose up', phase });
    expect({ name: stepNameOf(started), lines: renderEvent(started) }).toEqual({
      name,
      lines: [`── ${name}: docker compose up`],
    });
  });

  it('of a newer agent is shown as JSON', () => {
    expect(renderEvent(event({ kind: 'weather', sky: 'blue' }))).toEqual([
      '{"type":"event","n":1,"at":"","kind":"weather","sky":"blue"}',
    ]);
  });

  it('of a newer agent with other fields does not throw', () => {
    expect(renderEvent(event({ kind: 'planned', title: 7, changes: 'many' }))).toEqual(['7']);
  });
});

describe('a plan', () => {
  const changes = '  web: recreate (image web:1 → web:2; port 80)';

  it('shows its summary and its changes', () => {
    expect(renderEvent(plan)).toEqual(['rollout web', '  1 service changes.', changes]);
  });

  it('leaves a summary without changes out if it is brief', () => {
    const same = event({ ...plan, changes: [] });
    expect({ whole: renderEvent(same), brief: renderEvent(same, { brief: true }) }).toEqual({
      whole: ['rollout web', '  1 service changes.'],
      brief: ['rollout web'],
    });
  });

  it('tags each line of a dry run, and shows the steps instead of the summary', () => {
    expect(renderEvent(plan, { dryRun: true })).toEqual([
      '[DRY-RUN] rollout web',
      `[DRY-RUN] ${changes}`,
      '[DRY-RUN]   up: docker compose up',
    ]);
  });
});

describe('a receipt', () => {
  it('shows each document with its outcome, and the images that changed', () => {
    const image = (service: string, before: string | null, after: string) => ({
      ...{ service, reference: service, before, after },
    });
    const after = `sha256:${'b'.repeat(64)}`;
    const document = { name: 'it', document: 1, steps: [], files: { written: [], removed: [] } };
    const receipt = {
      documents: [
        {
          ...document,
          action: 'rollout',
          stack: 'web',
          id: 'first',
          outcome: 'succeeded',
          images: [image('a', null, after), image('b', after, after)],
        },
        { ...document, action: 'backup', stack: '', outcome: 'skipped', images: [] },
      ],
    } as unknown as Receipt;
    expect(renderReceipt(receipt)).toEqual([
      '✓ rollout on web (first): succeeded',
      '    a: none → sha256:bbbbbbbbbbbb',
      '– backup on it: skipped',
    ]);
  });
});
