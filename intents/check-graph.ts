import { canNeverBegin, findCycle, formatDocumentLabel, type GraphDocument, graphOf } from './graph.ts';
import type { Intent } from './intent.ts';
import type { Problem } from './problem.ts';
import { suggestNearest } from './suggest.ts';

/** A document of a file, and the way to say where something of it is wrong. */
export interface CheckedDocument extends GraphDocument {
  intent: Intent;
  report(code: Problem['code'], path: readonly PropertyKey[], message: string, instead: string): void;
}

/** Reports what is wrong with a file's documents together: ids, cycles, and documents that can never begin. */
export function checkGraph(documents: CheckedDocument[]): void {
  const before = documents.map(reportIds(documents));
  for (const document of documents) reportFleet(document);
  // What can't be known yet, or is reported already, would be told as something else below.
  if (before.includes(false)) return;
  const nodes = graphOf(documents);
  const cycle = findCycle(nodes);
  if (cycle) {
    const [first] = cycle.map(place => documents[place]);
    const told = cycle.map(place => formatDocumentLabel(documents[place] as CheckedDocument));
    first?.report(
      'cycle',
      ['needs'],
      `Documents wait for each other: ${[...told, told[0]].join(' needs ')}.`,
      'Take one of these needs away. A document without "needs" comes after all before it in its file.',
    );
    return;
  }
  for (const [place, document] of documents.entries()) {
    if (!canNeverBegin(nodes, place)) continue;
    document.report(
      'unreachable',
      document.intent.if === undefined ? ['needs'] : ['if'],
      'This document can never begin: something before it would have to succeed and to fail, or there is nothing that could fail.',
      'Change "if" or "needs". After a failure only documents with "if: failed" or "if: always" begin, unless the failed one says "on_failure: continue".',
    );
  }
  const parallel = documents.filter(({ intent }) => intent.max_parallel !== undefined);
  for (const document of parallel.slice(1))
    document.report(
      'wrong-value',
      ['max_parallel'],
      'max_parallel stands in this file for the second time.',
      'Say it once: it counts for the whole file.',
    );
}

/** Whether all that a document needs is known by now and there. */
function reportIds(documents: CheckedDocument[]): (document: CheckedDocument) => boolean {
  const ids = documents.flatMap(({ intent }) => intent.id ?? []);
  return ({ intent, report }) => {
    let isKnown = true;
    for (const [index, needed] of (intent.needs ?? []).entries()) {
      if (ids.includes(needed)) continue;
      const isOpen = needed.includes('{{');
      const near = suggestNearest(needed, ids);
      isKnown &&= !isOpen;
      // A rollout may stand on a backup that the host knows of.
      if (isOpen || (intent.action === 'rollout' && near === undefined)) continue;
      isKnown = false;
      report(
        'unknown-id',
        ['needs', index],
        `No document of this file has the id "${needed}".`,
        near === undefined ? 'Give the document that is meant that "id".' : `Did you mean "${near}"?`,
      );
    }
    return isKnown;
  };
}

function reportFleet({ intent, report }: CheckedDocument): void {
  if (intent.hosts !== undefined && intent.host !== undefined)
    report('wrong-value', ['hosts'], '"host" and "hosts" exclude each other.', 'Keep one of the two.');
  for (const key of ['max_unavailable', 'canary'] as const) {
    if (intent[key] === undefined || intent.hosts !== undefined) continue;
    report('wrong-value', [key], `"${key}" is about "hosts", which is missing.`, 'Add "hosts: tag:…", or take it out.');
  }
}
