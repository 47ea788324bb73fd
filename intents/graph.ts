import { describeIntent, type Intent } from './intent.ts';

/** When a document begins, once what is before it has ended. */
export type Condition = 'always' | 'failed' | 'succeeded';

/** A document as the graph sees it. `name` is its file's name; `document` counts from 1 in its file. */
export interface GraphDocument {
  name: string;
  document: number;
  intent: Pick<Intent, 'id' | 'needs' | 'if' | 'on_failure' | 'max_parallel'> & { action: string };
}

/** How a document has ended; undefined: it has not. */
export type DocumentOutcome =
  | 'succeeded'
  | 'planned'
  | 'failed'
  | 'rolled-back'
  | 'cancelled'
  | 'interrupted'
  | 'skipped';

export interface GraphNode {
  /** Places of the documents that must have ended before it begins, in order. */
  after: number[];
  /** Whether `after` is what it asks for by name, and not only the file's order. */
  named: boolean;
  /** Absent: nothing that ends the run has happened, and what it needs has succeeded. */
  when: Condition | undefined;
  onFailure: 'stop' | 'rollback' | 'continue';
  /** Which file it is of, counted from 0. */
  file: number;
  /** How many documents of its file may go on at the same time. */
  maxParallel: number;
}

const MAX_PARALLEL = 4;

/**
 * What comes after what. Files come one after another; in a file each document comes after all before it, unless it names
 * what it needs. A rollout's `needs` may name backups of the host as well: a name that is no id of the file is one.
 */
export function graphOf(documents: readonly GraphDocument[]): GraphNode[] {
  const files = numberFiles(documents);
  return documents.map(({ intent }, place) => {
    const file = files[place] ?? 0;
    const mine = documents.flatMap((one, index) => (files[index] === file ? [{ ...one, index }] : []));
    const earlier = documents.flatMap((_, index) => ((files[index] ?? 0) < file ? [index] : []));
    const named = (intent.needs ?? []).flatMap(id => mine.find(one => one.intent.id === id)?.index ?? []);
    const isNamed = named.length > 0 || intent.needs?.length === 0;
    const inOrder = mine.flatMap(({ index }) => (index < place ? [index] : []));
    return {
      after: [...earlier, ...(isNamed ? named : inOrder)],
      named: isNamed,
      when: intent.if,
      onFailure: intent.on_failure ?? 'stop',
      file,
      maxParallel: mine.find(one => one.intent.max_parallel !== undefined)?.intent.max_parallel ?? MAX_PARALLEL,
    };
  });
}

/** Another file begins where the name changes or the count begins again. */
function numberFiles(documents: readonly GraphDocument[]): number[] {
  let file = 0;
  return documents.map(({ name, document }, index) => {
    const before = documents[index - 1];
    if (before && (before.name !== name || before.document >= document)) file++;
    return file;
  });
}

const hasFailed = (ended: DocumentOutcome | undefined) =>
  ended === 'failed' || ended === 'rolled-back' || ended === 'interrupted' || ended === 'cancelled';
const hasSucceeded = (ended: DocumentOutcome | undefined) => ended === 'succeeded' || ended === 'planned';

/** Whether a failure has ended the run for what does not ask for failures. */
export function isHalted(nodes: readonly GraphNode[], ended: readonly (DocumentOutcome | undefined)[]): boolean {
  return nodes.some(({ onFailure }, place) => onFailure !== 'continue' && hasFailed(ended[place]));
}

/** What is to be done about a document that has not begun. `skip` comes with the reason, for people. */
export function decideNext(
  nodes: readonly GraphNode[],
  place: number,
  ended: readonly (DocumentOutcome | undefined)[],
): { do: 'wait' } | { do: 'begin' } | { do: 'skip'; failed: number | undefined } {
  const node = nodes[place];
  if (!node) throw new RangeError(`No document ${place}`);
  const failed = () => nodes.findIndex((_, index) => hasFailed(ended[index]));
  if ((node.when === undefined || node.when === 'succeeded') && isHalted(nodes, ended))
    return { do: 'skip', failed: failed() };
  if (node.after.some(index => ended[index] === undefined)) return { do: 'wait' };
  switch (node.when) {
    case 'always':
      return { do: 'begin' };
    case 'failed': {
      const any = [...ancestors(nodes, place)].some(index => hasFailed(ended[index]));
      return any ? { do: 'begin' } : { do: 'skip', failed: undefined };
    }
    default: {
      // In the file's order alone, what went wrong before and was to be gone on from does not matter.
      if (!node.named && node.when === undefined) return { do: 'begin' };
      const missing = node.after.find(index => !hasSucceeded(ended[index]));
      return missing === undefined ? { do: 'begin' } : { do: 'skip', failed: missing };
    }
  }
}

/** Everything that comes before a document, directly or not. */
function ancestors(nodes: readonly GraphNode[], place: number, found = new Set<number>()): Set<number> {
  for (const before of nodes[place]?.after ?? []) {
    if (found.has(before)) continue;
    found.add(before);
    ancestors(nodes, before, found);
  }
  return found;
}

/** The places of a cycle, in order, each coming after the next; undefined where there is none. */
export function findCycle(nodes: readonly GraphNode[]): number[] | undefined {
  const done = new Set<number>();
  const visit = (place: number, path: number[]): number[] | undefined => {
    if (path.includes(place)) return path.slice(path.indexOf(place));
    if (done.has(place)) return undefined;
    for (const before of nodes[place]?.after ?? []) {
      const cycle = visit(before, [...path, place]);
      if (cycle) return cycle;
    }
    done.add(place);
    return undefined;
  };
  for (const place of nodes.keys()) {
    const cycle = visit(place, []);
    if (cycle) return cycle;
  }
  return undefined;
}

/** Whether there is no way in which a document could begin: something would have to succeed and fail. Only for graphs without cycles. */
export function canNeverBegin(nodes: readonly GraphNode[], place: number): boolean {
  const wanted = new Map<number, 'succeeded' | 'failed' | 'any'>();
  const open = [place];
  const want = (index: number, how: 'succeeded' | 'failed'): boolean => {
    const before = wanted.get(index);
    if (before === undefined) open.push(index);
    if (before !== undefined && before !== 'any' && before !== how) return false;
    wanted.set(index, how);
    return true;
  };
  wanted.set(place, 'any');
  const begun: number[] = [];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    begun.push(next);
    const { when, named, after } = nodes[next] as GraphNode;
    const before = [...ancestors(nodes, next)];
    if (when === 'failed') {
      if (before.length === 0) return true;
      const [only] = before;
      if (before.length === 1 && only !== undefined && !want(only, 'failed')) return true;
    } else if (when === 'succeeded' || (when === undefined && named)) {
      if (!after.every(index => want(index, 'succeeded'))) return true;
    }
  }
  return begun.some(index => {
    const { when } = nodes[index] as GraphNode;
    const before = [...ancestors(nodes, index)];
    if (when === 'always') return false;
    if (when === 'failed') return before.every(one => wanted.get(one) === 'succeeded');
    return before.some(one => wanted.get(one) === 'failed' && nodes[one]?.onFailure !== 'continue');
  });
}

/** How a document is called in a graph: its id, or its file and number. */
export function formatDocumentLabel({ name, document, intent }: GraphDocument): string {
  return intent.id ?? `${name} ${document}`;
}

interface ShownDocument extends GraphDocument {
  intent: Intent;
}

/** The graph as lines for people; none where there is nothing to tell. */
export function graphLines(documents: readonly ShownDocument[]): string[] {
  if (documents.length < 2) return [];
  const nodes = graphOf(documents);
  return documents.map((document, place) => {
    const { when, onFailure } = nodes[place] as GraphNode;
    const before = directPredecessors(nodes, place).map(index =>
      formatDocumentLabel(documents[index] as ShownDocument),
    );
    const told = [
      ...(before.length > 0 ? [`after ${before.join(', ')}`] : []),
      ...(when === undefined ? [] : [`if ${when}`]),
      ...(document.intent.on_failure === undefined ? [] : [`on failure ${onFailure}`]),
    ];
    const what = `${formatDocumentLabel(document)}: ${describeIntent(document.intent)}${formatHosts(document.intent)}`;
    return `${place + 1}. ${what}${told.length > 0 ? ` (${told.join('; ')})` : ''}`;
  });
}

function formatHosts({ host, hosts }: Intent): string {
  const where = host ?? (Array.isArray(hosts) ? hosts.join(', ') : hosts);
  return where === undefined ? '' : ` at ${where}`;
}

/** What comes directly before: of `after` without what is before another one of it. */
function directPredecessors(nodes: readonly GraphNode[], place: number): number[] {
  const { after } = nodes[place] as GraphNode;
  const farther = new Set(after.flatMap(index => [...ancestors(nodes, index)]));
  return after.filter(index => !farther.has(index));
}

/** The graph as Mermaid, with how each has ended where it is known. Holds no character of a document that Mermaid or Markdown reads. */
export function graphMermaid(documents: readonly ShownDocument[], ended: readonly (string | undefined)[] = []): string {
  const nodes = graphOf(documents);
  const plain = (text: string) => text.replaceAll(/[^\w .:/,-]/g, ' ').slice(0, 80);
  const lines = ['flowchart LR'];
  for (const [place, document] of documents.entries()) {
    const outcome = ended[place];
    const shown = [
      formatDocumentLabel(document),
      `${describeIntent(document.intent)}${formatHosts(document.intent)}`,
      outcome ?? '',
    ];
    const text = shown.filter(Boolean).map(plain).join('<br/>');
    lines.push(`  d${place}["${text}"]${classOf(outcome)}`);
  }
  for (const place of documents.keys()) {
    const { when } = nodes[place] as GraphNode;
    for (const before of directPredecessors(nodes, place))
      lines.push(`  d${before} -->${when === undefined ? '' : `|${when}|`} d${place}`);
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
