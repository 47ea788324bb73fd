/** Keeps apart what documents say that are carried out at the same time: each line then names its document. */
export class EventLines {
  /** Its id, or what it is about. */
  readonly #labels = new Map<number, string>();
  readonly #going = new Set<number>();
  readonly #rests = new Map<number, string>();
  readonly #always: boolean;

  /** `always`: also where one goes on by itself. */
  constructor(always = false) {
    this.#always = always;
  }

  /** Whether several go on right now. */
  get areMany(): boolean {
    return this.#always || this.#going.size > 1;
  }

  /** Takes note of an event. */
  heard({ kind, document, id, title }: { kind: string; document?: unknown; id?: unknown; title?: unknown }): void {
    if (typeof document !== 'number') return;
    if (kind === 'planned') this.#labels.set(document, String(id ?? title));
    if (kind === 'planned' || kind === 'step-started') this.#going.add(document);
    if (kind === 'document-finished') this.#going.delete(document);
  }

  /** `label: ` where several go on. */
  prefix(document: unknown): string {
    if (!this.areMany || typeof document !== 'number') return '';
    return `${this.#labels.get(document) ?? `document ${document}`}: `;
  }

  /** A piece of output. Where several go on its whole lines with their prefix; what follows the last one is kept for the next piece. */
  piece(document: unknown, text: string): string {
    if (typeof document !== 'number' || (!this.areMany && !this.#rests.has(document))) return text;
    const all = (this.#rests.get(document) ?? '') + text;
    const end = this.areMany ? Math.max(all.lastIndexOf('\n'), all.lastIndexOf('\r')) + 1 : all.length;
    this.#rests.set(document, all.slice(end));
    return this.#prefixed(document, all.slice(0, end));
  }

  /** What was kept, when its step has ended. */
  rest(document: unknown): string {
    if (typeof document !== 'number') return '';
    const rest = this.#rests.get(document) ?? '';
    this.#rests.delete(document);
    return rest === '' ? '' : this.#prefixed(document, `${rest}\n`);
  }

  #prefixed(document: number, text: string): string {
    const prefix = this.prefix(document);
    return prefix === '' ? text : text.replace(/[^\r\n]+/g, line => prefix + line);
  }
}
