/** Prefixes the output of documents that run at the same time: each line then names its document. */
export class EventLines {
  /** Id or title of each document. */
  readonly #labels = new Map<number, string>();
  readonly #running = new Set<number>();
  readonly #partialLines = new Map<number, string>();
  readonly #always: boolean;

  /** `always`: adds the prefix also if a single document runs. */
  constructor(always = false) {
    this.#always = always;
  }

  /** True if several documents run now. */
  get isConcurrent(): boolean {
    return this.#always || this.#running.size > 1;
  }

  /** Reads from an event which documents run. */
  observe({ kind, document, id, title }: { kind: string; document?: unknown; id?: unknown; title?: unknown }): void {
    if (typeof document !== 'number') return;
    if (kind === 'planned') this.#labels.set(document, String(id ?? title));
    if (kind === 'planned' || kind === 'step-started') this.#running.add(document);
    if (kind === 'document-finished') this.#running.delete(document);
  }

  /** `label: ` if several documents run, otherwise an empty text. */
  prefix(document: unknown): string {
    if (!this.isConcurrent || typeof document !== 'number') return '';
    return `${this.#labels.get(document) ?? `document ${document}`}: `;
  }

  /** Returns output as it is, or if several documents run its complete lines with their prefix. Keeps a partial last line for the next call. */
  prefixOutput(document: unknown, text: string): string {
    if (typeof document !== 'number' || (!this.isConcurrent && !this.#partialLines.has(document))) return text;
    const all = (this.#partialLines.get(document) ?? '') + text;
    const end = this.isConcurrent ? Math.max(all.lastIndexOf('\n'), all.lastIndexOf('\r')) + 1 : all.length;
    this.#partialLines.set(document, all.slice(end));
    return this.#prefixLines(document, all.slice(0, end));
  }

  /** Returns the partial last line when its step has finished. */
  flush(document: unknown): string {
    if (typeof document !== 'number') return '';
    const line = this.#partialLines.get(document) ?? '';
    this.#partialLines.delete(document);
    return line === '' ? '' : this.#prefixLines(document, `${line}\n`);
  }

  #prefixLines(document: number, text: string): string {
    const prefix = this.prefix(document);
    return prefix === '' ? text : text.replace(/[^\r\n]+/g, line => prefix + line);
  }
}
