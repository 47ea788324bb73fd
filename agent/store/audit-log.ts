import { chainDigest, EMPTY_DIGEST } from '../../protocol/event.ts';
import type { Database } from './database.ts';

/** One row of the audit: `body` is JSON, `digest` is the chain's up to here: SHA-256 of the digest before (hex), then of `n at body`. */
export interface AuditRow {
  n: number;
  /** ISO 8601. */
  at: string;
  body: string;
  digest: string;
}

/** The newest row's number and digest; 0 and zeros where there is none. */
export type AuditHead = Pick<AuditRow, 'n' | 'digest'>;

const EMPTY_HEAD: AuditHead = { n: 0, digest: EMPTY_DIGEST };

/** The audit in the database, each row bound to the one before. */
export class AuditLog {
  readonly #db: Database;
  #head: AuditHead;

  constructor(db: Database) {
    this.#db = db;
    this.#head = db.get<AuditHead>('SELECT n, digest FROM audit ORDER BY n DESC LIMIT 1') ?? EMPTY_HEAD;
  }

  get head(): AuditHead {
    return this.#head;
  }

  /** Durable when this returns. */
  append(at: string, facts: object): AuditRow {
    const n = this.#head.n + 1;
    const body = JSON.stringify(facts);
    const row = { n, at, body, digest: rowDigest(this.#head.digest, { n, at, body }) };
    this.#db.setDurable(true);
    this.#db.run('INSERT INTO audit (n, at, body, digest) VALUES (?, ?, ?, ?)', [n, at, body, row.digest]);
    this.#head = row;
    return row;
  }

  /** The rows after number `after`, at most `limit`. */
  rows(after: number, limit: number): AuditRow[] {
    return this.#db.all<AuditRow>('SELECT n, at, body, digest FROM audit WHERE n > ? ORDER BY n LIMIT ?', [
      after,
      limit,
    ]);
  }
}

function rowDigest(before: string, { n, at, body }: Omit<AuditRow, 'digest'>): string {
  return chainDigest(before, `${n} ${at} ${body}`);
}

/** Where a chain is broken, and how. */
export interface ChainBreak {
  n: number;
  why: string;
}

/** Follows a chain row by row: the first break, or the head. `anchors`: digests that were told elsewhere (receipts, metrics), by row. */
export class AuditVerifier {
  head: AuditHead = EMPTY_HEAD;
  broken: ChainBreak | undefined;
  readonly #anchors: Map<number, string>;

  constructor(anchors: Map<number, string> = new Map()) {
    this.#anchors = anchors;
  }

  take(row: AuditRow): void {
    if (this.broken) return;
    const n = this.head.n + 1;
    if (row.n !== n) this.broken = { n, why: `row ${n} is missing; row ${row.n} follows` };
    else if (rowDigest(this.head.digest, row) !== row.digest)
      this.broken = { n, why: `row ${n} is not what it was, or was put in` };
    else {
      this.head = row;
      const anchor = this.#anchors.get(n);
      if (anchor !== undefined && anchor !== row.digest)
        this.broken = { n, why: `row ${n} has another digest than was told elsewhere: the chain was made anew` };
    }
  }

  /** After the last row: what was told elsewhere must be there. */
  end(): void {
    const last = Math.max(0, ...this.#anchors.keys());
    if (!this.broken && last > this.head.n)
      this.broken = { n: this.head.n + 1, why: `the chain ends at row ${this.head.n}; row ${last} was told elsewhere` };
  }
}
