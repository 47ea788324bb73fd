import { closeSync, openSync, readSync } from 'node:fs';
import {
  chainDigest,
  EMPTY_DIGEST,
  type Event,
  type EventBody,
  encodeEvent,
  type Frame,
} from '../../protocol/event.ts';
import type { Plan } from '../plan/plan.ts';
import type { DocumentResult, ProgressEvent, StepMark, StepProgress, StepResult } from '../plan/progress.ts';
import { toUtf8 } from '../system/log-tail.ts';
import type { BackupIndexEntry } from './backup-index.ts';
import type { Database } from './database.ts';
import type { ScheduleState } from './schedules.ts';

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
  /** One line for lists: `rollout on stack-media`. */
  title: string;
  at: string;
}

export interface StoredRun extends Omit<NewRun, 'at'> {
  state: 'waiting' | 'running' | 'ended';
  outcome: string | null;
  /** The receipt's frame, as text. */
  receipt: string | null;
  createdAt: string;
  startedAt: string | null;
  endedAt: string | null;
  events: number;
  head: string;
  /** Who asked for its end, as JSON; null where nobody has. */
  cancel: string | null;
}

/** A run as lists show it. */
export interface ListedRun {
  id: string;
  type: string;
  title: string;
  state: StoredRun['state'];
  outcome: string | null;
  createdAt: string;
  endedAt: string | null;
  cancel: string | null;
}

/** How far a document had come when an earlier agent ended. */
export interface DocumentProgress {
  plan: Plan | undefined;
  ending: DocumentResult | undefined;
  /** By their index. */
  steps: Map<number, StepProgress>;
  /** It has told its plan. */
  told: boolean;
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
export class RunStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  begin(run: NewRun): void {
    this.#sync(true);
    this.#run(
      `INSERT INTO runs (id, digest, type, trust, key_id, address, command, title, state, created_at, head)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?, ?)`,
      [run.id, run.digest, run.type, run.trust, run.keyId, run.address, run.command, run.title, run.at, EMPTY_DIGEST],
    );
  }

  running(id: string, at: string): void {
    this.#sync(true);
    this.#run(`UPDATE runs SET state = 'running', started_at = coalesce(started_at, ?) WHERE id = ?`, [at, id]);
  }

  /** What is known of backups, one for each kind and name. */
  backups(): BackupIndexEntry[] {
    return this.#all<{ facts: string }>('SELECT facts FROM backups', []).map(
      row => JSON.parse(row.facts) as BackupIndexEntry,
    );
  }

  noteBackup(known: BackupIndexEntry): void {
    this.#run('INSERT OR REPLACE INTO backups (kind, name, facts) VALUES (?, ?, ?)', [
      known.kind,
      known.name,
      JSON.stringify(known),
    ]);
  }

  /** Runs that a hook has begun under an entry: how many since a time, and when the last one did (ISO 8601). */
  hookRuns(trust: string, hook: string, since: string): { count: number; latest: string | undefined } {
    const where = `FROM runs WHERE trust = ? AND json_extract(command, '$.origin.actor') = ?`;
    const count = this.#get<{ count: number }>(`SELECT count(*) AS count ${where} AND created_at > ?`, [
      trust,
      hook,
      since,
    ]);
    const last = this.#get<{ at: string }>(`SELECT created_at AS at ${where} ORDER BY created_at DESC LIMIT 1`, [
      trust,
      hook,
    ]);
    return { count: count?.count ?? 0, latest: last?.at };
  }

  schedule(name: string): ScheduleState | undefined {
    return this.#get<ScheduleState>('SELECT last, run FROM schedules WHERE name = ?', [name]);
  }

  keepSchedule(name: string, { last, run }: ScheduleState): void {
    this.#sync(true);
    this.#run('INSERT OR REPLACE INTO schedules (name, last, run) VALUES (?, ?, ?)', [name, last, run]);
  }

  /** Somebody asked for the run's end. The first one stays. */
  cancel(id: string, by: string): void {
    this.#sync(true);
    this.#run('UPDATE runs SET cancel = coalesce(cancel, ?) WHERE id = ?', [by, id]);
  }

  plan(id: string, document: number, plan: Plan): void {
    this.#sync(true);
    this.#run('INSERT INTO documents (run, document, plan) VALUES (?, ?, ?)', [id, document, JSON.stringify(plan)]);
  }

  /**
   * Gives a happening its number and stores it. The event of a stored piece of output has no text: its frame has. Durable when this returns, but for output, whose rows become durable
   * with the next event that changes the run's state. A mark is stored in the same moment. Returns the event and its frame.
   */
  append(
    id: string,
    { mark, ...told }: ProgressEvent & { mark?: StepMark },
    at: string,
    ending?: DocumentResult,
  ): { event: Event; frame: Frame } {
    const row = this.#get<{ events: number; head: string }>('SELECT events, head FROM runs WHERE id = ?', [id]);
    if (!row) throw new Error(`No run ${id} in the store`);
    const n = row.events + 1;
    const stored = 'source' in told ? told : undefined;
    const happening = stored ? { kind: stored.kind, document: stored.document, step: stored.step, text: '' } : told;
    const event = { type: 'event', n, at, ...happening } as Event;
    const frame = encodeEvent(event, stored?.bytes);
    const body = JSON.stringify(happening);
    const document = told.kind === 'document-finished' ? told.document : undefined;
    const source = stored?.source;
    this.#sync(told.kind !== 'output');
    this.#db.transaction(() => {
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
      if (mark) this.#mark(id, mark);
      if (document !== undefined && ending) {
        this.#run(
          `INSERT INTO documents (run, document, ending) VALUES (?, ?, ?)
           ON CONFLICT (run, document) DO UPDATE SET ending = excluded.ending`,
          [id, document, JSON.stringify(ending)],
        );
      }
    });
    return { event, frame };
  }

  #mark(id: string, mark: StepMark): void {
    if ('ending' in mark) {
      this.#run('UPDATE steps SET ms = ?, ending = ? WHERE run = ? AND document = ? AND idx = ?', [
        mark.ms,
        JSON.stringify(mark.ending),
        id,
        mark.document,
        mark.index,
      ]);
    } else {
      this.#run('INSERT INTO steps (run, document, idx, step, phase) VALUES (?, ?, ?, ?, ?)', [
        id,
        mark.document,
        mark.index,
        mark.step,
        mark.phase,
      ]);
    }
  }

  /** `bytes`: how much the run's folder holds. */
  end(id: string, outcome: string, receipt: string, at: string, bytes = 0): void {
    this.#sync(true);
    this.#run(`UPDATE runs SET state = 'ended', outcome = ?, receipt = ?, ended_at = ?, bytes = ? WHERE id = ?`, [
      outcome,
      receipt,
      at,
      bytes,
      id,
    ]);
  }

  /** How far each document of a run had come; those whose turn had not come are absent. */
  progress(id: string): Map<number, DocumentProgress> {
    const found = new Map<number, DocumentProgress>();
    const of = (document: number): DocumentProgress => {
      const known = found.get(document) ?? { plan: undefined, ending: undefined, steps: new Map(), told: false };
      found.set(document, known);
      return known;
    };
    for (const row of this.#all<{ document: number; plan: string | null; ending: string | null }>(
      'SELECT document, plan, ending FROM documents WHERE run = ?',
      [id],
    )) {
      of(row.document).plan = parsed<Plan>(row.plan);
      of(row.document).ending = parsed<DocumentResult>(row.ending);
    }
    for (const { document } of this.#all<{ document: number }>(
      `SELECT json_extract(body, '$.document') AS document FROM events
       WHERE run = ? AND file IS NULL AND json_extract(body, '$.kind') = 'planned'`,
      [id],
    ))
      of(document).told = true;
    for (const row of this.#all<{ document: number; idx: number; ms: number | null; ending: string | null }>(
      'SELECT document, idx, ms, ending FROM steps WHERE run = ?',
      [id],
    )) {
      const ending = parsed<StepResult>(row.ending);
      of(row.document).steps.set(
        row.idx,
        ending ? { ending, ms: row.ms ?? 0 } : { offset: this.#told(id, `${row.document}-${row.idx}.log`) },
      );
    }
    return found;
  }

  /** A document that had ended was undone by another run. */
  undone(id: string, document: number, ending: DocumentResult): void {
    this.#sync(true);
    this.#run('UPDATE documents SET ending = ? WHERE run = ? AND document = ?', [JSON.stringify(ending), id, document]);
  }

  /** How many bytes of a step's file have been told. */
  #told(id: string, name: string): number {
    const row = this.#get<{ told: number | null }>(
      `SELECT max(offset + length) AS told FROM events WHERE run = ? AND file LIKE '%/' || ?`,
      [id, name],
    );
    return row?.told ?? 0;
  }

  /** Runs, the newest first, from after the one named `before` on; with `trust` those of that entry. */
  list(limit: number, before?: string, trust?: string): ListedRun[] {
    const from = before === undefined ? undefined : this.find(before);
    const where = [...(from ? ['(created_at, id) < (?, ?)'] : []), ...(trust === undefined ? [] : ['trust = ?'])];
    const values = [...(from ? [from.createdAt, from.id] : []), ...(trust === undefined ? [] : [trust]), limit];
    const condition = where.length > 0 ? `WHERE ${where.join(' AND ')}` : '';
    return this.#all<ListedRun>(`${SELECT_LISTED} ${condition} ${NEWEST_FIRST}`, values);
  }

  /** The oldest ended runs, as long as they are older than `before` (ISO 8601), or there are more than `runs`, or of more bytes than `bytes`. */
  surplus(limits: { before: string; runs: number; bytes: number }, most: number): string[] {
    const left = this.#get<{ runs: number; bytes: number }>(
      'SELECT count(*) AS runs, total(bytes) AS bytes FROM runs',
      [],
    );
    if (!left) return [];
    const ids: string[] = [];
    for (const run of this.#all<{ id: string; bytes: number; at: string }>(
      `SELECT id, bytes, created_at AS at FROM runs WHERE state = 'ended' ORDER BY created_at, id LIMIT ?`,
      [most],
    )) {
      if (run.at >= limits.before && left.runs <= limits.runs && left.bytes <= limits.bytes) break;
      ids.push(run.id);
      left.runs--;
      left.bytes -= run.bytes;
    }
    return ids;
  }

  /** Takes a run out, with all that is known of it. */
  forget(id: string): void {
    this.#sync(true);
    this.#db.transaction(() => {
      for (const table of ['events', 'steps', 'documents']) this.#run(`DELETE FROM ${table} WHERE run = ?`, [id]);
      this.#run('DELETE FROM runs WHERE id = ?', [id]);
    });
  }

  find(id: string): StoredRun | undefined {
    return this.#get<StoredRun>(`${SELECT_RUN} WHERE id = ?`, [id]);
  }

  /** How many runs (not plans) have begun under an entry of trust since a time (ISO 8601). */
  countSince(trust: string, since: string): number {
    const row = this.#get<{ count: number }>(
      `SELECT count(*) AS count FROM runs WHERE trust = ? AND created_at > ? AND type = 'run'
         AND NOT coalesce(json_extract(command, '$.dry_run'), 0)`,
      [trust, since],
    );
    return row?.count ?? 0;
  }

  /** Runs that had not ended when the agent did. */
  open(): StoredRun[] {
    return this.#all<StoredRun>(`${SELECT_RUN} WHERE state <> 'ended' ORDER BY created_at, rowid`, []);
  }

  /** The frames after number `after`, at most `limit`, made again from what was stored. */
  frames(id: string, after: number, limit: number): { n: number; frame: Frame }[] {
    const rows = this.#all<EventRow>(
      'SELECT n, at, body, file, offset, length FROM events WHERE run = ? AND n > ? ORDER BY n LIMIT ?',
      [id, after, limit],
    );
    return rows.map(row => ({ n: row.n, frame: readFrame(row) }));
  }

  /** Throws where the database can't be written. */
  probe(): void {
    this.#db.transaction(() => undefined);
  }

  close(): void {
    this.#db.close();
  }

  /** Output is cheap: it need not reach the disk before it is told, since its bytes lie in the step's file already. */
  #sync(durable: boolean): void {
    this.#db.setDurable(durable);
  }

  #run(sql: string, values: (string | number | null)[]): void {
    this.#db.run(sql, values);
  }

  #all<T>(sql: string, values: (string | number)[]): T[] {
    return this.#db.all<T>(sql, values);
  }

  #get<T>(sql: string, values: (string | number)[]): T | undefined {
    return this.#db.get<T>(sql, values);
  }
}

const SELECT_RUN = `SELECT id, digest, type, trust, key_id AS keyId, address, command, state, outcome, receipt,
  title, created_at AS createdAt, started_at AS startedAt, ended_at AS endedAt, events, head, cancel FROM runs`;
const SELECT_LISTED = `SELECT id, type, title, state, outcome, created_at AS createdAt, ended_at AS endedAt, cancel FROM runs`;
const NEWEST_FIRST = 'ORDER BY created_at DESC, id DESC LIMIT ?';

function parsed<T>(text: string | null): T | undefined {
  return text === null ? undefined : (JSON.parse(text) as T);
}

function readFrame(row: EventRow): Frame {
  const event = { type: 'event', n: row.n, at: row.at, ...(JSON.parse(row.body) as EventBody) } as Event;
  return encodeEvent(event, row.file === null ? undefined : readOutput(row.file, row.offset, row.length));
}

function readOutput(file: string, offset: number, length: number): Buffer {
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
  return toUtf8(bytes);
}
