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
  hasParallel,
} from './graph.ts';
import { loadIntents } from './load.ts';
import { InvalidIntents } from './problem.ts';

/** A file with one rollout for each text of keys. */
const file = (...documents: string[]) =>
  documents.map((keys, index) => `action: rollout\nstack: s${index + 1}\n${keys}\n`).join('---\n');
const load = (text: string) => loadIntents([{ file: 'a/g.yaml', text }]);
const problems = (text: string) => {
  try {
    load(text);
    return [];
  } catch (error) {
    if (!(error instanceof InvalidIntents)) throw error;
    return error.problems.map(({ code, line, message, instead }) => ({ code, line, text: `${message} ${instead}` }));
  }
};
const nodesOf = (...documents: string[]) => graphOf(load(file(...documents)));
/** The decision for each document that has not finished, and the outcome of the others. */
const decided = (nodes: ReturnType<typeof graphOf>, ...outcomes: (DocumentOutcome | undefined)[]) =>
  nodes.map((_, index) => outcomes[index] ?? decideNext(nodes, index, outcomes).do);

describe('the graph of a file', () => {
  it.each<[string[], boolean]>([
    [[''], false],
    [['', '', ''], false],
    [['id: a', 'id: b\nneeds: []', ''], true],
    [['id: a', 'id: b\nneeds: [a]', 'needs: [b]'], false],
    [['id: a', 'id: b\nneeds: [a]', 'needs: [a]'], true],
  ])('has documents that may run at the same time, or not: %s', (documents, expected) => {
    expect(hasParallel(nodesOf(...documents))).toBe(expected);
  });

  it('is the order of the file if the documents have no conditions', () => {
    const nodes = nodesOf('', '', '');
    expect(decided(nodes)).toEqual(['begin', 'wait', 'wait']);
    expect(decided(nodes, 'succeeded')).toEqual(['succeeded', 'begin', 'wait']);
    expect(decided(nodes, 'failed')).toEqual(['failed', 'skip', 'skip']);
  });

  it('follows "needs", and starts a document without needs at once', () => {
    const nodes = nodesOf('id: a', 'id: b\nneeds: []', 'id: c\nneeds: [a, b]', 'needs: [a]');
    expect(decided(nodes)).toEqual(['begin', 'begin', 'wait', 'wait']);
    expect(decided(nodes, 'succeeded')).toEqual(['succeeded', 'begin', 'wait', 'begin']);
    expect(decided(nodes, 'succeeded', 'succeeded')).toEqual(['succeeded', 'succeeded', 'begin', 'begin']);
  });

  it('continues after a failure with "on_failure: continue", only with documents that do not need the failed one', () => {
    const nodes = nodesOf('id: a\non_failure: continue', 'id: b\nneeds: []', 'needs: [a]', 'needs: [b]', '');
    expect(decided(nodes, 'rolled-back', 'succeeded')).toEqual(['rolled-back', 'succeeded', 'skip', 'begin', 'wait']);
    // A document without "needs" continues after such a failure.
    expect(decided(nodes, 'failed', 'succeeded', 'skipped', 'succeeded').at(-1)).toBe('begin');
    const stops = nodesOf('id: a', 'id: b\nneeds: []', 'needs: [b]');
    expect(decided(stops, 'failed', 'succeeded')).toEqual(['failed', 'succeeded', 'skip']);
  });

  it('starts "if: failed" after a failure anywhere before it, and "if: always" in any case', () => {
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

  it('runs one file after another', () => {
    const files = ['x', 'y'].map(name => ({ file: `${name}.yaml`, text: file('id: a', 'needs: []') }));
    const nodes = graphOf(loadIntents(files));
    expect(decided(nodes)).toEqual(['begin', 'begin', 'wait', 'wait']);
    expect(decided(nodes, 'succeeded', 'succeeded')).toEqual(['succeeded', 'succeeded', 'begin', 'begin']);
  });

  it('ignores backups of the host in the "needs" of a rollout', () => {
    const nodes = nodesOf('id: a', 'needs: [nextcloud-db]', 'needs: [nextcloud-db, a]');
    expect(nodes.map(({ after }) => after)).toEqual([[], [0], [0]]);
  });

  it('starts or skips every document of a graph without a cycle: none waits for ever', () => {
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
      fc.property(fc.array(document, { minLength: 1, maxLength: 8 }), outcomes, (intents, results) => {
        const documents = intents.map(
          (intent, index): GraphDocument => ({
            name: 'g',
            document: index + 1,
            intent: { ...intent, action: 'rollout', id: `d${index}`, needs: intent.needs?.map(need => `d${need}`) },
          }),
        );
        const nodes = graphOf(documents);
        fc.pre(findCycle(nodes) === undefined);
        const outcomes: (DocumentOutcome | undefined)[] = documents.map(() => undefined);
        const started = new Set<number>();
        for (let round = 0; round <= documents.length; round++) {
          for (const index of nodes.keys()) {
            if (outcomes[index] !== undefined) continue;
            const next = decideNext(nodes, index, outcomes);
            if (next.do === 'begin') started.add(index);
            if (next.do !== 'wait') outcomes[index] = next.do === 'skip' ? 'skipped' : results[index];
          }
        }
        expect(outcomes).not.toContain(undefined);
        for (const index of started) expect(canNeverBegin(nodes, index)).toBe(false);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('a file with an invalid graph', () => {
  it.each<{ name: string; documents: string[]; problem: { code: string; line: number; text: string } }>([
    {
      name: 'an unknown id, with the nearest one',
      documents: ['id: web', 'needs: [wep]'],
      problem: {
        code: 'unknown-id',
        line: 7,
        text: 'The id "wep" is not known: no document of this file has it. Did you mean "web"?',
      },
    },
    {
      name: 'a cycle',
      documents: ['id: a\nneeds: [c]', 'id: b\nneeds: [a]', 'id: c\nneeds: [b]'],
      problem: { code: 'cycle', line: 4, text: expect.stringContaining('a needs c needs b needs a') },
    },
    {
      name: 'a document that needs itself',
      documents: ['id: a\nneeds: [a]'],
      problem: { code: 'cycle', line: 4, text: expect.stringContaining('a needs a') },
    },
    {
      name: 'a need that contradicts the order of the file',
      documents: ['id: a\nneeds: [b]', 'id: b'],
      problem: { code: 'cycle', line: 4, text: expect.stringContaining('comes after all documents before it') },
    },
    {
      name: '"if: failed" without a document that can fail',
      documents: ['if: failed'],
      problem: { code: 'unreachable', line: 3, text: expect.stringContaining('can never start') },
    },
    {
      name: 'a document that needs a success and a failure of the same document',
      documents: ['id: a', 'id: b\nneeds: [a]\nif: failed', 'needs: [a, b]'],
      problem: { code: 'unreachable', line: 13, text: expect.stringContaining('can never start') },
    },
    {
      name: 'max_parallel twice',
      documents: ['max_parallel: 2', 'max_parallel: 3'],
      problem: { code: 'wrong-value', line: 7, text: expect.stringContaining('second time') },
    },
    {
      name: 'host and hosts',
      documents: ['host: a\nhosts: tag:b'],
      problem: { code: 'wrong-value', line: 4, text: expect.stringContaining('exclude each other') },
    },
    {
      name: 'a canary without hosts',
      documents: ['canary: 1'],
      problem: { code: 'wrong-value', line: 3, text: expect.stringContaining('"hosts", which is missing') },
    },
    {
      name: 'an invalid share',
      documents: ['hosts: tag:b\nmax_unavailable: 0%'],
      problem: { code: 'wrong-value', line: 4, text: expect.stringContaining('25%') },
    },
  ])('is reported with its line: $name', ({ documents, problem }) => {
    expect(problems(file(...documents))).toEqual([problem]);
  });

  it('is reported for an unknown id of an action other than rollout, also without a similar id', () => {
    const text = 'action: scale\nstack: a\nservice: b\nreplicas: 1\nneeds: [elsewhere]\n';
    expect(problems(text)).toEqual([{ code: 'unknown-id', line: 5, text: expect.stringContaining('"elsewhere"') }]);
  });
});

describe('the text of a graph', () => {
  const shown = load(
    file('id: db\nhost: nas', 'id: web\nneeds: [db]\non_failure: rollback', 'needs: [web]\nif: failed'),
  );

  it('is a line for each document, or nothing for a single document', () => {
    expect(graphLines(shown)).toEqual([
      '1. db: rollout on s1 at nas',
      '2. web: rollout on s2 (after db; on failure rollback)',
      '3. g 3: rollout on s3 (after web; if failed)',
    ]);
    expect(graphLines(shown.slice(0, 1))).toEqual([]);
  });

  it('is Mermaid, which interprets nothing of a document', () => {
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
    const hostile = load(
      'action: backup\nbackup_type: docker_volumes\nsource: \'/v/"]; click d0 "javascript:alert(1)"\'\ndestination: /b\n',
    );
    expect(graphMermaid(hostile)).toContain('["g 1<br/>backup of /v/    click d0  javascript:alert 1  "]');
  });
});
