import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  canNeverBegin,
  type DocumentOutcome,
  decideNext,
  findCycle,
  type GraphDocument,
  graphLines,
  graphMermaid,
  graphOf,
} from './graph.ts';
import { loadIntents } from './load.ts';
import { InvalidIntents } from './problem.ts';

/** A file of rollouts, one a line of keys. */
const file = (...documents: string[]) =>
  documents.map((keys, index) => `action: rollout\nstack: s${index + 1}\n${keys}\n`).join('---\n');
const load = (text: string) => loadIntents([{ file: 'a/g.yaml', text }]);
const problems = (text: string) => {
  try {
    load(text);
    return [];
  } catch (error) {
    if (!(error instanceof InvalidIntents)) throw error;
    return error.problems.map(({ code, line, message, instead }) => [code, line, `${message} ${instead}`]);
  }
};
const nodesOf = (...documents: string[]) => graphOf(load(file(...documents)));
/** What is decided about each document that has not ended. */
const decided = (nodes: ReturnType<typeof graphOf>, ...ended: (DocumentOutcome | undefined)[]) =>
  nodes.map((_, place) => (ended[place] === undefined ? decideNext(nodes, place, ended).do : ended[place]));

describe('the graph of a file', () => {
  it('is the file’s order, where nothing is said', () => {
    const nodes = nodesOf('', '', '');
    expect(decided(nodes)).toEqual(['begin', 'wait', 'wait']);
    expect(decided(nodes, 'succeeded')).toEqual(['succeeded', 'begin', 'wait']);
    expect(decided(nodes, 'failed')).toEqual(['failed', 'skip', 'skip']);
  });

  it('follows "needs", and begins at once what needs nothing', () => {
    const nodes = nodesOf('id: a', 'id: b\nneeds: []', 'id: c\nneeds: [a, b]', 'needs: [a]');
    expect(decided(nodes)).toEqual(['begin', 'begin', 'wait', 'wait']);
    expect(decided(nodes, 'succeeded')).toEqual(['succeeded', 'begin', 'wait', 'begin']);
    expect(decided(nodes, 'succeeded', 'succeeded')).toEqual(['succeeded', 'succeeded', 'begin', 'begin']);
  });

  it('goes on after a failure only with what does not need it, where that says "continue"', () => {
    const nodes = nodesOf('id: a\non_failure: continue', 'id: b\nneeds: []', 'needs: [a]', 'needs: [b]', '');
    expect(decided(nodes, 'rolled-back', 'succeeded')).toEqual(['rolled-back', 'succeeded', 'skip', 'begin', 'wait']);
    // In the file's order alone the failure was to be gone on from.
    expect(decided(nodes, 'failed', 'succeeded', 'skipped', 'succeeded').at(-1)).toBe('begin');
    const stops = nodesOf('id: a', 'id: b\nneeds: []', 'needs: [b]');
    expect(decided(stops, 'failed', 'succeeded')).toEqual(['failed', 'succeeded', 'skip']);
  });

  it('begins "if: failed" after a failure anywhere before it, and "if: always" in any case', () => {
    const nodes = nodesOf(
      'id: a',
      'id: b\nneeds: [a]',
      'needs: [b]\nif: failed',
      'if: always',
      'if: succeeded\nneeds: []',
    );
    expect(decided(nodes, 'failed', 'skipped')).toEqual(['failed', 'skipped', 'begin', 'wait', 'skip']);
    expect(decided(nodes, 'failed', 'skipped', 'succeeded')[3]).toBe('begin');
    expect(decided(nodes, 'succeeded', 'succeeded')).toEqual(['succeeded', 'succeeded', 'skip', 'wait', 'begin']);
    expect(decided(nodes, 'succeeded', 'succeeded', 'skipped')[3]).toBe('begin');
  });

  it('puts one file after another', () => {
    const files = ['x', 'y'].map(name => ({ file: `${name}.yaml`, text: file('id: a', 'needs: []') }));
    const nodes = graphOf(loadIntents(files));
    expect(decided(nodes)).toEqual(['begin', 'begin', 'wait', 'wait']);
    expect(decided(nodes, 'succeeded', 'succeeded')).toEqual(['succeeded', 'succeeded', 'begin', 'begin']);
  });

  it('takes the name of a backup of the host in a rollout’s "needs" for no part of itself', () => {
    const nodes = nodesOf('id: a', 'needs: [nextcloud-db]', 'needs: [nextcloud-db, a]');
    expect(nodes.map(({ after }) => after)).toEqual([[], [0], [0]]);
  });

  it('never leaves anything waiting for ever: in any graph without a cycle every document begins or is passed over', () => {
    const document = fc.record({
      needs: fc.option(fc.array(fc.nat(7), { maxLength: 3 }), { nil: undefined }),
      if: fc.option(fc.constantFrom('always', 'failed', 'succeeded'), { nil: undefined }),
      on_failure: fc.option(fc.constantFrom('stop', 'rollback', 'continue'), { nil: undefined }),
    });
    const outcomes = fc.array(fc.constantFrom<DocumentOutcome>('succeeded', 'failed', 'rolled-back'), {
      minLength: 8,
      maxLength: 8,
    });
    fc.assert(
      fc.property(fc.array(document, { minLength: 1, maxLength: 8 }), outcomes, (drawn, ends) => {
        const documents = drawn.map(
          (one, index): GraphDocument => ({
            name: 'g',
            document: index + 1,
            intent: { ...one, action: 'rollout', id: `d${index}`, needs: one.needs?.map(need => `d${need}`) },
          }),
        );
        const nodes = graphOf(documents);
        fc.pre(findCycle(nodes) === undefined);
        const ended: (DocumentOutcome | undefined)[] = documents.map(() => undefined);
        const began = new Set<number>();
        for (let round = 0; round <= documents.length; round++) {
          for (const place of nodes.keys()) {
            if (ended[place] !== undefined) continue;
            const next = decideNext(nodes, place, ended);
            if (next.do === 'begin') began.add(place);
            if (next.do !== 'wait') ended[place] = next.do === 'skip' ? 'skipped' : ends[place];
          }
        }
        expect(ended).not.toContain(undefined);
        for (const place of began) expect(canNeverBegin(nodes, place)).toBe(false);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('a file whose graph is wrong', () => {
  it.each<[string, string[], [string, number, string][]]>([
    [
      'an unknown id, with the nearest one',
      ['id: web', 'needs: [wep]'],
      [['unknown-id', 7, 'No document of this file has the id "wep". Did you mean "web"?']],
    ],
    [
      'a cycle',
      ['id: a\nneeds: [c]', 'id: b\nneeds: [a]', 'id: c\nneeds: [b]'],
      [['cycle', 4, expect.stringContaining('a needs c needs b needs a')]],
    ],
    ['a document that needs itself', ['id: a\nneeds: [a]'], [['cycle', 4, expect.stringContaining('a needs a')]]],
    [
      'an order that is its own contrary',
      ['id: a\nneeds: [b]', 'id: b'],
      [['cycle', 4, expect.stringContaining('comes after all before it')]],
    ],
    [
      '"if: failed" where nothing can fail',
      ['if: failed'],
      [['unreachable', 3, expect.stringContaining('can never begin')]],
    ],
    [
      'what needs a success and a failure of the same',
      ['id: a', 'id: b\nneeds: [a]\nif: failed', 'needs: [a, b]'],
      [['unreachable', 13, expect.stringContaining('can never begin')]],
    ],
    [
      'max_parallel twice',
      ['max_parallel: 2', 'max_parallel: 3'],
      [['wrong-value', 7, expect.stringContaining('second time')]],
    ],
    ['host and hosts', ['host: a\nhosts: tag:b'], [['wrong-value', 4, expect.stringContaining('exclude each other')]]],
    [
      'a canary without hosts',
      ['canary: 1'],
      [['wrong-value', 3, expect.stringContaining('"hosts", which is missing')]],
    ],
    [
      'a share that is none',
      ['hosts: tag:b\nmax_unavailable: 0%'],
      [['wrong-value', 4, expect.stringContaining('25%')]],
    ],
  ])('is told with its line: %s', (_, documents, expected) => {
    expect(problems(file(...documents))).toEqual(expected);
  });

  it('is told an unknown id of anything but a rollout, however far from every other', () => {
    const text = 'action: scale\nstack: a\nservice: b\nreplicas: 1\nneeds: [elsewhere]\n';
    expect(problems(text)).toEqual([['unknown-id', 5, expect.stringContaining('"elsewhere"')]]);
  });
});

describe('a graph that is shown', () => {
  const shown = load(
    file('id: db\nhost: nas', 'id: web\nneeds: [db]\non_failure: rollback', 'needs: [web]\nif: failed'),
  );

  it('is a line a document, or nothing where there is one', () => {
    expect(graphLines(shown)).toEqual([
      '1. db: rollout on s1 at nas',
      '2. web: rollout on s2 (after db; on failure rollback)',
      '3. g 3: rollout on s3 (after web; if failed)',
    ]);
    expect(graphLines(shown.slice(0, 1))).toEqual([]);
  });

  it('is Mermaid, and nothing of a document is read as such', () => {
    expect(graphMermaid(shown, ['succeeded', 'failed'])).toMatchInlineSnapshot(`
      "flowchart LR
        d0["db<br/>rollout on s1 at nas<br/>succeeded"]:::good
        d1["web<br/>rollout on s2<br/>failed"]:::bad
        d2["g 3<br/>rollout on s3"]
        d0 --> d1
        d1 -->|failed| d2
        classDef good fill:#d4f4dd,stroke:#1a7f37,color:#000
        classDef bad fill:#ffd8d3,stroke:#cf222e,color:#000
        classDef not fill:#eaeef2,stroke:#6e7781,color:#000"
    `);
    const evil = load(
      'action: backup\nbackup_type: docker_volumes\nsource: \'/v/"]; click d0 "javascript:alert(1)"\'\ndestination: /b\n',
    );
    expect(graphMermaid(evil)).toContain('["g 1<br/>backup of /v/    click d0  javascript:alert 1  "]');
  });
});
