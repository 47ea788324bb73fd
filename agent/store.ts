import { chmodSync, closeSync, openSync, readSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { chainDigest, EMPTY_DIGEST, type Event, encodeEvent, type Frame, type Happening } from '../protocol/event.ts';
import type { Told } from './carry-out.ts';
import { asUtf8 } from './tail.ts';

/** One entry a version; the database's `user_version` says how many have been applied. */
const MIGRATIONS = [
  `CREATE TABLE runs (
     id TEXT PRIMARY KEY, digest TEXT NOT NULL, type TEXT NOT NULL, trust TEXT NOT NULL, key_id TEXT NOT NULL, address TEXT NOT NULL,
     command TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'ended')), outcome TEXT, receipt TEXT,
     created_at TEXT NOT NULL, ended_at TEXT, events INTEGER NOT NULL DEFAULT 0, head TEXT NOT NULL
   ) STRICT;
   CREATE INDEX runs_by_time ON runs (created_at DESC);
   CREATE INDEX runs_open ON runs (state) WHERE state <> 'ended';
   CREATE TABLE plans (
     run TEXT NOT NULL REFERENCES runs (id), document INTEGER NOT NULL, plan TEXT NOT NULL, PRIMARY KEY (run, document)
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE events (
     run TEXT NOT NULL REFERENCES runs (id), n INTEGER NOT NULL, at TEXT NOT NULL, body TEXT NOT NULL,
     file TEXT, offset INTEGER, length INTEGER, PRIMARY KEY (run, n)
   ) STRICT, WITHOUT ROWID;`,
];

export interface NewRun {
  id: string;
  /** SHA-256 of what makes two commands with one id the same. */
  digest: string;
  type: string;
  trust: string;
  keyId: string;
  address: string;
  /** The command as JSON, without the content of its files. */
  command: string;
  at: string;
}

export interface StoredRun extends Omit<NewRun, 'at'> {
  state: 'waiting' | 'running' | 'ended';
  outcome: string | null;
  /** The receipt's frame, as text. */
  receipt: string | null;
  createdAt: string;
  endedAt: string | null;
  events: number;
  head: string;
}

interface EventRow {
  n: number;
  at: string;
  body: string;
  file: string | null;
  offset: number;
  length: number;
}

/** All SQL of the agent: runs, plans, events and receipts in one SQLite file (WAL). */
export class Store {
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #durable = true;

  /** Opens or makes `file` (0600). Throws where it was written by a newer version. */
  constructor(file: string) {
    this.#db = new DatabaseSync(file);
    chmodSync(file, 0o600);
    this.#db.exec(
      'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000;',
    );
    this.#migrate(file);
  }

  begin(run: NewRun): void {
    this.#sync(true);
    this.#run(
      `INSERT INTO runs (id, digest, type, trust, key_id, address, command, state, created_at, head)
       VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting', ?, ?)`,
      [run.id, run.digest, run.type, run.trust, run.keyId, run.address, run.command, run.at, EMPTY_DIGEST],
    );
  }

  running(id: string): void {
    this.#sync(true);
    this.#run(`UPDATE runs SET state = 'running' WHERE id = ?`, [id]);
  }

  plan(id: string, document: number, plan: string): void {
    this.#sync(true);
    this.#run('INSERT OR REPLACE INTO plans (run, document, plan) VALUES (?, ?, ?)', [id, document, plan]);
  }

  /**
   * Gives a happening its number and stores it. The event of a stored piece of output has no text: its frame has. Durable when this returns, but for output, whose rows become durable
   * with the next event that changes the run's state. Returns the event and its frame.
   */
  append(id: string, told: Told, at: string): { event: Event; frame: Frame } {
    const row = this.#get<{ events: number; head: string }>('SELECT events, head FROM runs WHERE id = ?', [id]);
    if (!row) throw new Error(`No run ${id} in the store`);
    const n = row.events + 1;
    const stored = 'source' in told ? told : undefined;
    const happening = stored ? { kind: stored.kind, document: stored.document, step: stored.step, text: '' } : told;
    const event = { type: 'event', n, at, ...happening } as Event;
    const frame = encodeEvent(event, stored?.bytes);
    const body = JSON.stringify(happening);
    const source = stored?.source;
    this.#sync(told.kind !== 'output');
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      this.#run('INSERT INTO events (run, n, at, body, file, offset, length) VALUES (?, ?, ?, ?, ?, ?, ?)', [
        id,
        n,
        at,
        body,
        source?.file ?? null,
        source?.offset ?? null,
        source?.length ?? null,
      ]);
      this.#run('UPDATE runs SET events = ?, head = ? WHERE id = ?', [n, chainDigest(row.head, frame), id]);
      this.#db.exec('COMMIT');
    } catch (error) {
      this.#db.exec('ROLLBACK');
      throw error;
    }
    return { event, frame };
  }

  end(id: string, outcome: string, receipt: string, at: string): void {
    this.#sync(true);
    this.#run(`UPDATE runs SET state = 'ended', outcome = ?, receipt = ?, ended_at = ? WHERE id = ?`, [
      outcome,
      receipt,
      at,
      id,
    ]);
  }

  find(id: string): StoredRun | undefined {
    return this.#get<StoredRun>(`${SELECT_RUN} WHERE id = ?`, [id]);
  }

  /** Runs that had not ended when the agent did. */
  open(): StoredRun[] {
    return this.#prepare(`${SELECT_RUN} WHERE state <> 'ended' ORDER BY created_at`).all() as unknown as StoredRun[];
  }

  /** The frames after number `after`, at most `limit`, made again from what was stored. */
  frames(id: string, after: number, limit: number): { n: number; frame: Frame }[] {
    const rows = this.#prepare(
      'SELECT n, at, body, file, offset, length FROM events WHERE run = ? AND n > ? ORDER BY n LIMIT ?',
    ).all(id, after, limit) as unknown as EventRow[];
    return rows.map(row => ({ n: row.n, frame: frameOf(row) }));
  }

  /** Throws where the database can't be written. */
  probe(): void {
    this.#db.exec('BEGIN IMMEDIATE; COMMIT;');
  }

  close(): void {
    this.#statements.clear();
    this.#db.close();
  }

  #migrate(file: string): void {
    const { user_version: version } = this.#db.prepare('PRAGMA user_version').get() as { user_version: number };
    if (version > MIGRATIONS.length) {
      throw new Error(
        `${file} was written by a newer chatops (version ${version}). Install that version again, or move the file away.`,
      );
    }
    for (const [index, sql] of MIGRATIONS.entries()) {
      if (index < version) continue;
      this.#db.exec(`BEGIN; ${sql} PRAGMA user_version = ${index + 1}; COMMIT;`);
    }
  }

  /** Output is cheap: it need not reach the disk before it is told, since its bytes lie in the step's file already. */
  #sync(durable: boolean): void {
    if (this.#durable === durable) return;
    this.#db.exec(`PRAGMA synchronous = ${durable ? 'FULL' : 'NORMAL'}`);
    this.#durable = durable;
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #run(sql: string, values: (string | number | null)[]): void {
    this.#prepare(sql).run(...values);
  }

  #get<T>(sql: string, values: string[]): T | undefined {
    return this.#prepare(sql).get(...values) as T | undefined;
  }
}

const SELECT_RUN = `SELECT id, digest, type, trust, key_id AS keyId, address, command, state, outcome, receipt,
  created_at AS createdAt, ended_at AS endedAt, events, head FROM runs`;

function frameOf(row: EventRow): Frame {
  const event = { type: 'event', n: row.n, at: row.at, ...(JSON.parse(row.body) as Happening) } as Event;
  return encodeEvent(event, row.file === null ? undefined : readPiece(row.file, row.offset, row.length));
}

function readPiece(file: string, offset: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  const descriptor = openSync(file, 'r');
  try {
    let read = 0;
    while (read < length) {
      const got = readSync(descriptor, bytes, read, length - read, offset + read);
      if (got === 0)
        throw new Error(`${file} is shorter than its record (${offset + read} of ${offset + length} bytes)`);
      read += got;
    }
  } finally {
    closeSync(descriptor);
  }
  return asUtf8(bytes);
}
