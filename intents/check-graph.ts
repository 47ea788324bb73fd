import { canNeverBegin, findCycle, formatDocumentLabel, type GraphDocument, graphOf } from './graph.ts';
import type { Intent } from './intent.ts';
import type { Problem } from './problem.ts';
import { suggestNearest } from './suggest.ts';

/** A document of a file, and a function that reports its problems with their positions. */
export interface CheckedDocument extends GraphDocument {
  intent: Intent;
  report(code: Problem['code'], path: readonly PropertyKey[], message: string, instead: string): void;
}

/** Reports problems between the documents of a file: ids, cycles, and documents that can never start. */
export function checkGraph(documents: CheckedDocument[]): void {
  const areNeedsKnown = documents.map(reportIds(documents));
  for (const document of documents) reportFleet(document);
  // An unknown id, reported above or not filled in yet, would cause misleading reports below.
  if (areNeedsKnown.includes(false)) return;
  const nodes = graphOf(documents);
  const cycle = findCycle(nodes);
  if (cycle) {
    const [first] = cycle.map(index => documents[index]);
    const labels = cycle.map(index => formatDocumentLabel(documents[index] as CheckedDocument));
    first?.report(
      'cycle',
      ['needs'],
      `The documents wait for each other: ${[...labels, labels[0]].join(' needs ')}.`,
      'Remove one of these needs. A document without "needs" comes after all documents before it in its file.',
    );
    return;
  }
  for (const [index, document] of documents.entries()) {
    if (!canNeverBegin(nodes, index)) continue;
    document.report(
      'unreachable',
      document.intent.if === undefined ? ['needs'] : ['if'],
      'The document can never start: a document before it would have to succeed and to fail, or no document before it can fail.',
      'Change "if" or "needs". After a failure only documents with "if: failed" or "if: always" start, unless the failed one has "on_failure: continue".',
    );
  }
  const parallel = documents.filter(({ intent }) => intent.max_parallel !== undefined);
  for (const document of parallel.slice(1))
    document.report(
      'wrong-value',
      ['max_parallel'],
      'The key "max_parallel" stands in this file for the second time.',
      'Keep one of the two: it counts for the whole file.',
    );
}

/** Returns a function that reports unknown ids of a document, and returns true if all that it needs are known. */
function reportIds(documents: CheckedDocument[]): (document: CheckedDocument) => boolean {
  const ids = documents.flatMap(({ intent }) => intent.id ?? []);
  return ({ intent, report }) => {
    let isKnown = true;
    for (const [index, needed] of (intent.needs ?? []).entries()) {
      if (ids.includes(needed)) continue;
      const isTemplate = needed.includes('{{');
      const near = suggestNearest(needed, ids);
      isKnown &&= !isTemplate;
      // A rollout may need a backup that only the host knows.
      if (isTemplate || (intent.action === 'rollout' && near === undefined)) continue;
      isKnown = false;
      report(
        'unknown-id',
        ['needs', index],
        `The id "${needed}" is not known: no document of this file has it.`,
        near === undefined ? 'Add this "id" to the document that comes first.' : `Did you mean "${near}"?`,
      );
    }
    return isKnown;
  };
}

function reportFleet({ intent, report }: CheckedDocument): void {
  if (intent.hosts !== undefined && intent.host !== undefined)
    report('wrong-value', ['hosts'], 'The keys "host" and "hosts" exclude each other.', 'Keep one of the two.');
  for (const key of ['max_unavailable', 'canary'] as const) {
    if (intent[key] === undefined || intent.hosts !== undefined) continue;
    report(
      'wrong-value',
      [key],
      `The key "${key}" belongs to "hosts", which is missing.`,
      'Add "hosts: tag:…", or remove the key.',
    );
  }
}
