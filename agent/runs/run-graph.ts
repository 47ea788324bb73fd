import type { DocumentOutcome, GraphNode } from '../../intents/graph.ts';
import { graphOfCommand } from '../../protocol/graph.ts';
import type { DocumentResult } from '../plan/progress.ts';
import { type DocumentIndex, indexed } from './document-index.ts';
import { createSequence, executeGraph, type GraphDocuments } from './graph.ts';
import { CANCELLED_BEFORE } from './receipt.ts';
import type { RunDocuments } from './run-documents.ts';

/** Results by the documents' indexes. */
export type DocumentResults = (DocumentResult | undefined)[];

/** Executes the documents of a run in the order of their graph; a read-only run goes through them one by one. */
export async function executeDocuments(documents: RunDocuments): Promise<DocumentResults> {
  const graph = new RunGraph(documents);
  await executeGraph(graph.nodes, graph);
  const { results } = graph;
  const next = results.indexOf(undefined);
  if (graph.isCancelled && next >= 0 && !results.some(result => result?.outcome === 'cancelled'))
    results[next] = CANCELLED_BEFORE;
  return results;
}

/** The documents of a run as nodes of their graph, which also holds documents that other agents execute. */
class RunGraph implements GraphDocuments {
  readonly nodes: readonly GraphNode[];
  readonly outcomes: (DocumentOutcome | undefined)[];
  readonly unfinished: readonly number[];
  readonly results: DocumentResults;
  readonly #documents: RunDocuments;
  /** The node of each document of this run. */
  readonly #ownNodes: readonly number[];

  constructor(documents: RunDocuments) {
    const { command, documents: admitted } = documents.admitted;
    const { nodes, mine, ended } = documents.isReadOnly ? createSequence(admitted.length) : graphOfCommand(command);
    this.nodes = nodes;
    this.#documents = documents;
    this.#ownNodes = mine;
    this.results = indexed(admitted).map(([index]) => documents.earlierResult(index));
    this.outcomes = ended.map((outcome, node) => {
      const index = this.#indexOf(node);
      return outcome ?? (index === undefined ? undefined : this.results[index]?.outcome);
    });
    this.unfinished = mine.filter((_, index) => documents.isUnfinished(index as DocumentIndex));
  }

  get isCancelled(): boolean {
    return this.#documents.signal.aborted;
  }

  subjectsOf(node: number): readonly string[] {
    const index = this.#indexOf(node);
    const own = index === undefined ? undefined : this.#documents.admitted.documents[index];
    return own?.executor.lockSubjects(own.document.intent, own.document) ?? [];
  }

  execute(node: number): Promise<DocumentOutcome> {
    const index = this.#indexOf(node);
    if (index === undefined) throw new RangeError(`Another agent executes the document of node ${node}`);
    return this.#settle(index, this.#documents.execute(index));
  }

  async undo(node: number): Promise<DocumentOutcome> {
    const index = this.#indexOf(node);
    // The action sends the undo of another agent's document to that agent.
    if (index === undefined) return 'succeeded';
    return this.#settle(index, this.#documents.undo(index, this.results[index]));
  }

  async #settle(index: DocumentIndex, work: Promise<DocumentResult>): Promise<DocumentOutcome> {
    const result = await work;
    this.results[index] = result;
    return result.outcome;
  }

  /** Undefined for a document of another agent. */
  #indexOf(node: number): DocumentIndex | undefined {
    const index = this.#ownNodes.indexOf(node);
    return index < 0 ? undefined : (index as DocumentIndex);
  }
}
