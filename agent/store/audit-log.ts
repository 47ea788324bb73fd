import { chainDigest, EMPTY_DIGEST } from '../../protocol/event.ts';
import type { Database } from './database.ts';

/** A row of the audit log. `body` is JSON; `digest` is the hash chain up to this row: SHA-256 over the previous digest (hex) and `n at body`. */
export interface AuditRow {
  n: number;
  /** ISO 8601. */
  at: string;
  body: string;
  digest: string;
}

/** Number and digest of the newest row; 0 and zeros if there is none. */
export type AuditHead = Pick<AuditRow, 'n' | 'digest'>;

const EMPTY_HEAD: AuditHead = { n: 0, digest: EMPTY_DIGEST };

/** The audit log in the database: a hash chain, each row bound to the previous one. */
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

  /** Durable when this returns; otherwise with the next durable row. */
  append(at: string, facts: object, { durable } = { durable: true }): AuditRow {
    const n = this.#head.n + 1;
    const body = JSON.stringify(facts);
    const row = { n, at, body, digest: rowDigest(this.#head.digest, { n, at, body }) };
    this.#db.setDurable(durable);
    this.#db.run('INSERT INTO audit (n, at, body, digest) VALUES (?, ?, ?, ?)', [n, at, body, row.digest]);
    this.#head = row;
    return row;
  }

  /** Returns the rows after number `after`, at most `limit`. */
  rows(after: number, limit: number): AuditRow[] {
    return this.#db.all<AuditRow>('SELECT n, at, body, digest FROM audit WHERE n > ? ORDER BY n LIMIT ?', [
      after,
      limit,
    ]);
  }
}

function rowDigest(previous: string, { n, at, body }: Omit<AuditRow, 'digest'>): string {
  return chainDigest(previous, `${n} ${at} ${body}`);
}

/** The first broken row of a chain, and the reason. */
export interface ChainBreak {
  n: number;
  why: string;
}

/** Verifies a chain row by row up to its first break. `anchors`: digests published elsewhere (receipts, metrics), by row. */
export class AuditVerifier {
  head: AuditHead = EMPTY_HEAD;
  broken: ChainBreak | undefined;
  readonly #anchors: Map<number, string>;

  constructor(anchors: Map<number, string> = new Map()) {
    this.#anchors = anchors;
  }

  add(row: AuditRow): void {
    if (this.broken) return;
    const n = this.head.n + 1;
    if (row.n !== n) this.broken = { n, why: `row ${n} is missing; row ${row.n} follows` };
    else if (rowDigest(this.head.digest, row) !== row.digest)
      this.broken = { n, why: `row ${n} was changed or inserted` };
    else {
      this.head = row;
      const anchor = this.#anchors.get(n);
      if (anchor !== undefined && anchor !== row.digest)
        this.broken = { n, why: `row ${n} has another digest than the one published elsewhere: the chain was rebuilt` };
    }
  }

  /** Checks after the last row that every row published elsewhere is there. */
  finish(): void {
    const last = Math.max(0, ...this.#anchors.keys());
    if (!this.broken && last > this.head.n)
      this.broken = {
        n: this.head.n + 1,
        why: `the chain ends at row ${this.head.n}; row ${last} was published elsewhere`,
      };
  }
}
