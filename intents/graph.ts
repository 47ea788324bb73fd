import { describeIntent, type Intent } from './intent.ts';

/** The condition on which a document starts, after the documents before it have finished. */
type Condition = 'always' | 'failed' | 'succeeded';

/** A document as the graph sees it. `name` is its file's name; `document` counts from 1 in its file. */
export interface GraphDocument {
  name: string;
  document: number;
  intent: Pick<Intent, 'id' | 'needs' | 'if' | 'on_failure' | 'max_parallel'> & { action: string };
}

/** The result of a finished document; undefined means that it has not finished. */
export type DocumentOutcome =
  | 'succeeded'
  | 'planned'
  | 'failed'
  | 'rolled-back'
  | 'cancelled'
  | 'interrupted'
  | 'skipped';

export interface GraphNode {
  /** Indexes of the documents that must finish before it starts, in order. */
  after: number[];
  /** True if `after` holds what it needs by name; false if it holds the order of the file. */
  named: boolean;
  /** Absent: it starts if nothing has halted the run, and what it needs has succeeded. */
  when: Condition | undefined;
  onFailure: 'stop' | 'rollback' | 'continue';
  /** The number of its file, from 0. */
  file: number;
  /** The limit of documents of its file that run at the same time. */
  maxParallel: number;
}

const MAX_PARALLEL = 4;

/**
 * Builds the graph. Files run one after another. In a file, each document comes after all documents before it, unless it
 * names what it needs. A rollout may also need backups of the host: a name that is not an id of the file is such a backup.
 */
export function graphOf(documents: readonly GraphDocument[]): GraphNode[] {
  const files = numberFiles(documents);
  return documents.map(({ intent }, index) => {
    const file = files[index] ?? 0;
    const siblings = documents.flatMap((document, at) => (files[at] === file ? [{ ...document, at }] : []));
    const earlierFiles = documents.flatMap((_, at) => ((files[at] ?? 0) < file ? [at] : []));
    const named = (intent.needs ?? []).flatMap(id => siblings.find(sibling => sibling.intent.id === id)?.at ?? []);
    const isNamed = named.length > 0 || intent.needs?.length === 0;
    const inOrder = siblings.flatMap(({ at }) => (at < index ? [at] : []));
    return {
      after: [...earlierFiles, ...(isNamed ? named : inOrder)],
      named: isNamed,
      when: intent.if,
      onFailure: intent.on_failure ?? 'stop',
      file,
      maxParallel:
        siblings.find(sibling => sibling.intent.max_parallel !== undefined)?.intent.max_parallel ?? MAX_PARALLEL,
    };
  });
}

/** Numbers the files: the next file starts when the name changes or the document number does not increase. */
function numberFiles(documents: readonly GraphDocument[]): number[] {
  let file = 0;
  return documents.map(({ name, document }, index) => {
    const before = documents[index - 1];
    if (before && (before.name !== name || before.document >= document)) file++;
    return file;
  });
}

const hasFailed = (outcome: DocumentOutcome | undefined) =>
  outcome === 'failed' || outcome === 'rolled-back' || outcome === 'interrupted' || outcome === 'cancelled';
const hasSucceeded = (outcome: DocumentOutcome | undefined) => outcome === 'succeeded' || outcome === 'planned';

/** Returns true if a failure has halted the run for all documents that do not ask for failures. */
function isHalted(nodes: readonly GraphNode[], outcomes: readonly (DocumentOutcome | undefined)[]): boolean {
  return nodes.some(({ onFailure }, index) => onFailure !== 'continue' && hasFailed(outcomes[index]));
}

/** Decides the next action for a document that has not started. `skip` comes with the index of the document that is the reason. */
export function decideNext(
  nodes: readonly GraphNode[],
  index: number,
  outcomes: readonly (DocumentOutcome | undefined)[],
): { do: 'wait' } | { do: 'begin' } | { do: 'skip'; failed: number | undefined } {
  const node = nodes[index];
  if (!node) throw new RangeError(`The document ${index} is not in the graph`);
  if ((node.when === undefined || node.when === 'succeeded') && isHalted(nodes, outcomes))
    return { do: 'skip', failed: nodes.findIndex((_, at) => hasFailed(outcomes[at])) };
  if (node.after.some(at => outcomes[at] === undefined)) return { do: 'wait' };
  switch (node.when) {
    case 'always':
      return { do: 'begin' };
    case 'failed': {
      const anyFailed = [...ancestors(nodes, index)].some(at => hasFailed(outcomes[at]));
      return anyFailed ? { do: 'begin' } : { do: 'skip', failed: undefined };
    }
    default: {
      // In the order of the file, an earlier failure with "on_failure: continue" does not matter.
      if (!node.named && node.when === undefined) return { do: 'begin' };
      const missing = node.after.find(at => !hasSucceeded(outcomes[at]));
      return missing === undefined ? { do: 'begin' } : { do: 'skip', failed: missing };
    }
  }
}

/** Collects all documents before a document, directly or not. */
function ancestors(nodes: readonly GraphNode[], index: number, found = new Set<number>()): Set<number> {
  for (const before of nodes[index]?.after ?? []) {
    if (found.has(before)) continue;
    found.add(before);
    ancestors(nodes, before, found);
  }
  return found;
}

/** The indexes of a cycle, in order: each document comes after the next. Undefined if the graph has no cycle. */
export function findCycle(nodes: readonly GraphNode[]): number[] | undefined {
  const done = new Set<number>();
  const visit = (index: number, path: number[]): number[] | undefined => {
    if (path.includes(index)) return path.slice(path.indexOf(index));
    if (done.has(index)) return undefined;
    for (const before of nodes[index]?.after ?? []) {
      const cycle = visit(before, [...path, index]);
      if (cycle) return cycle;
    }
    done.add(index);
    return undefined;
  };
  for (const index of nodes.keys()) {
    const cycle = visit(index, []);
    if (cycle) return cycle;
  }
  return undefined;
}

/** Returns true if a document can start in no case, for example because another one would have to succeed and fail. Needs a graph without cycles. */
export function canNeverBegin(nodes: readonly GraphNode[], index: number): boolean {
  const required = new Map<number, 'succeeded' | 'failed' | 'any'>();
  const open = [index];
  const demand = (at: number, outcome: 'succeeded' | 'failed'): boolean => {
    const previous = required.get(at);
    if (previous === undefined) open.push(at);
    if (previous !== undefined && previous !== 'any' && previous !== outcome) return false;
    required.set(at, outcome);
    return true;
  };
  required.set(index, 'any');
  const started: number[] = [];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    started.push(next);
    const { when, named, after } = nodes[next] as GraphNode;
    const before = [...ancestors(nodes, next)];
    if (when === 'failed') {
      if (before.length === 0) return true;
      const [only] = before;
      if (before.length === 1 && only !== undefined && !demand(only, 'failed')) return true;
    } else if (when === 'succeeded' || (when === undefined && named)) {
      if (!after.every(at => demand(at, 'succeeded'))) return true;
    }
  }
  return started.some(at => {
    const { when } = nodes[at] as GraphNode;
    const before = [...ancestors(nodes, at)];
    if (when === 'always') return false;
    if (when === 'failed') return before.every(earlier => required.get(earlier) === 'succeeded');
    return before.some(earlier => required.get(earlier) === 'failed' && nodes[earlier]?.onFailure !== 'continue');
  });
}

/** The label of a document in a graph: its id, or its file and number. */
export function formatDocumentLabel({ name, document, intent }: GraphDocument): string {
  return intent.id ?? `${name} ${document}`;
}

interface ShownDocument extends GraphDocument {
  intent: Intent;
}

/** Returns true if two documents may run at the same time: neither comes after the other. */
export function hasParallel(nodes: readonly GraphNode[]): boolean {
  const earlier = nodes.map((_, index) => ancestors(nodes, index));
  return nodes.some((_, index) => nodes.slice(0, index).some((_, other) => !isOrdered(earlier, index, other)));
}

function isOrdered(earlier: readonly ReadonlySet<number>[], one: number, other: number): boolean {
  return earlier[one]?.has(other) === true || earlier[other]?.has(one) === true;
}

/** The graph as lines for people. A single document has no lines. */
export function graphLines(documents: readonly ShownDocument[]): string[] {
  if (documents.length < 2) return [];
  const nodes = graphOf(documents);
  return documents.map((document, index) => {
    const { when, onFailure } = nodes[index] as GraphNode;
    const before = directPredecessors(nodes, index).map(at => formatDocumentLabel(documents[at] as ShownDocument));
    const conditions = [
      ...(before.length > 0 ? [`after ${before.join(', ')}`] : []),
      ...(when === undefined ? [] : [`if ${when}`]),
      ...(document.intent.on_failure === undefined ? [] : [`on failure ${onFailure}`]),
    ];
    const what = `${formatDocumentLabel(document)}: ${describeIntent(document.intent)}${formatHosts(document.intent)}`;
    return `${index + 1}. ${what}${conditions.length > 0 ? ` (${conditions.join('; ')})` : ''}`;
  });
}

function formatHosts({ host, hosts }: Intent): string {
  const names = host ?? (Array.isArray(hosts) ? hosts.join(', ') : hosts);
  return names === undefined ? '' : ` at ${names}`;
}

/** The direct predecessors: `after` without those that come before another of them. */
function directPredecessors(nodes: readonly GraphNode[], index: number): number[] {
  const { after } = nodes[index] as GraphNode;
  const indirect = new Set(after.flatMap(at => [...ancestors(nodes, at)]));
  return after.filter(at => !indirect.has(at));
}

/** The graph as Mermaid, with the known outcomes. Holds no character of a document that Mermaid or Markdown interprets. */
export function graphMermaid(
  documents: readonly ShownDocument[],
  outcomes: readonly (string | undefined)[] = [],
): string {
  const nodes = graphOf(documents);
  const plain = (text: string) => text.replaceAll(/[^\w .:/,-]/g, ' ').slice(0, 80);
  const lines = ['flowchart LR'];
  for (const [index, document] of documents.entries()) {
    const outcome = outcomes[index];
    const shown = [
      formatDocumentLabel(document),
      `${describeIntent(document.intent)}${formatHosts(document.intent)}`,
      outcome ?? '',
    ];
    const text = shown.filter(Boolean).map(plain).join('<br/>');
    lines.push(`  d${index}["${text}"]${classOf(outcome)}`);
  }
  for (const index of documents.keys()) {
    const { when } = nodes[index] as GraphNode;
    for (const before of directPredecessors(nodes, index))
      lines.push(`  d${before} -->${when === undefined ? '' : `|${when}|`} d${index}`);
  }
  lines.push(
    '  classDef good fill:#d4f4dd,stroke:#1a7f37,color:#000',
    '  classDef bad fill:#ffd8d3,stroke:#cf222e,color:#000',
    '  classDef not fill:#eaeef2,stroke:#6e7781,color:#000',
  );
  return lines.join('\n');
}

function classOf(outcome: string | undefined): string {
  if (outcome === undefined || outcome === 'planned') return '';
  return `:::${outcome === 'succeeded' ? 'good' : outcome === 'skipped' ? 'not' : 'bad'}`;
}
