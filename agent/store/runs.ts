import { chainDigest, EMPTY_DIGEST, type Event, encodeEvent, type Frame } from '../../protocol/event.ts';
import type { Plan } from '../plan/plan.ts';
import type { DocumentResult, ProgressEvent, StepMark, StepProgress, StepResult } from '../plan/progress.ts';
import type { BackupIndexEntry } from './backup-index.ts';
import type { Database } from './database.ts';
import { type DeployedKey, DeploymentStore } from './deployments.ts';
import { type EventRow, readFrame } from './frames.ts';
import type { ScheduleState } from './schedules.ts';

export interface NewRun {
  id: string;
  /** SHA-256 of the content that makes two commands with one id the same. */
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
  /** The commit and the documents that the run deploys. */
  deploys?: { sha: string; keys: DeployedKey[] };
}

export interface StoredRun extends Omit<NewRun, 'at' | 'deploys'> {
  state: 'waiting' | 'running' | 'ended';
  outcome: string | null;
  /** Frame of the receipt, as text. */
  receipt: string | null;
  createdAt: string;
  startedAt: string | null;
  endedAt: string | null;
  events: number;
  head: string;
  /** Sender of the cancel, as JSON; null if the run was not cancelled. */
  cancel: string | null;
}

/** A run in a list. */
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

/** Progress of a document when an earlier agent ended. */
export interface DocumentProgress {
  plan: Plan | undefined;
  ending: DocumentResult | undefined;
  /** By index. */
  steps: Map<number, StepProgress>;
  /** Its plan was reported. */
  wasPlanned: boolean;
}

interface RunEnd {
  bytes?: number;
  isDeployed?: Parameters<DeploymentStore['end']>[1];
}

/** A run whose last steps are not known may have deployed each document. */
const isAny = () => true;

/** Runs with their plans, events and receipts, and the newest backup of each name. */
export class RunStore {
  readonly #db: Database;
  readonly deployments: DeploymentStore;

  constructor(db: Database) {
    this.#db = db;
    this.deployments = new DeploymentStore(db);
  }

  begin({ id, digest, type, trust, keyId, address, command, title, at, deploys }: NewRun): void {
    this.#sync(true);
    this.#db.transaction(() => {
      this.#run(
        `INSERT INTO runs (id, digest, type, trust, key_id, address, command, title, state, created_at, head)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?, ?)`,
        [id, digest, type, trust, keyId, address, command, title, at, EMPTY_DIGEST],
      );
      if (deploys) this.deployments.begin(id, deploys.sha, at, deploys.keys);
    });
  }

  running(id: string, at: string): void {
    this.#sync(true);
    this.#run(`UPDATE runs SET state = 'running', started_at = coalesce(started_at, ?) WHERE id = ?`, [at, id]);
  }

  /** Returns the newest backup of each kind and name. */
  backups(): BackupIndexEntry[] {
    return this.#all<{ facts: string }>('SELECT facts FROM backups', []).map(
      row => JSON.parse(row.facts) as BackupIndexEntry,
    );
  }

  putBackup(entry: BackupIndexEntry): void {
    this.#run('INSERT OR REPLACE INTO backups (kind, name, facts) VALUES (?, ?, ?)', [
      entry.kind,
      entry.name,
      JSON.stringify(entry),
    ]);
  }

  /** Counts the runs that a hook started under a trust entry since a time, and returns the time of the latest (ISO 8601). */
  countHookRuns(trust: string, hook: string, since: string): { count: number; latest: string | undefined } {
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

  putSchedule(name: string, { last, run }: ScheduleState): void {
    this.#sync(true);
    this.#run('INSERT OR REPLACE INTO schedules (name, last, run) VALUES (?, ?, ?)', [name, last, run]);
  }

  /** Stores the sender of a cancel. The first one stays. */
  cancel(id: string, by: string): void {
    this.#sync(true);
    this.#run('UPDATE runs SET cancel = coalesce(cancel, ?) WHERE id = ?', [by, id]);
  }

  plan(id: string, document: number, plan: Plan): void {
    this.#sync(true);
    this.#run('INSERT INTO documents (run, document, plan) VALUES (?, ?, ?)', [id, document, JSON.stringify(plan)]);
  }

  /**
   * Numbers an event and stores it with its mark in one transaction. Output that is in a step's log is not copied: the
   * event has no text, its frame has. Durable when this returns, except for output: its rows become durable with the next
   * event that changes the run's state. Returns the event and its frame.
   */
  append(
    id: string,
    { mark, ...progress }: ProgressEvent,
    at: string,
    ending?: DocumentResult,
  ): { event: Event; frame: Frame } {
    const row = this.#get<{ events: number; head: string }>('SELECT events, head FROM runs WHERE id = ?', [id]);
    if (!row) throw new Error(`No run ${id} in the store`);
    const n = row.events + 1;
    const stored = 'source' in progress ? progress : undefined;
    const content = stored ? { kind: stored.kind, document: stored.document, step: stored.step, text: '' } : progress;
    const event = { type: 'event', n, at, ...content } as Event;
    const frame = encodeEvent(event, stored?.bytes);
    const body = JSON.stringify(content);
    const document = progress.kind === 'document-finished' ? progress.document : undefined;
    const source = stored?.source;
    this.#sync(progress.kind !== 'output');
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

  /** `bytes`: size of the run's folder. `isDeployed` tells if the run deployed a document. */
  end(id: string, outcome: string, receipt: string, at: string, { bytes = 0, isDeployed = isAny }: RunEnd = {}): void {
    this.#sync(true);
    this.#db.transaction(() => {
      this.#run(`UPDATE runs SET state = 'ended', outcome = ?, receipt = ?, ended_at = ?, bytes = ? WHERE id = ?`, [
        outcome,
        receipt,
        at,
        bytes,
        id,
      ]);
      this.deployments.end(id, isDeployed);
    });
  }

  /** Returns the progress of each document of a run; documents that had not started are absent. */
  progress(id: string): Map<number, DocumentProgress> {
    const found = new Map<number, DocumentProgress>();
    const entryOf = (document: number): DocumentProgress => {
      const known = found.get(document) ?? { plan: undefined, ending: undefined, steps: new Map(), wasPlanned: false };
      found.set(document, known);
      return known;
    };
    for (const row of this.#all<{ document: number; plan: string | null; ending: string | null }>(
      'SELECT document, plan, ending FROM documents WHERE run = ?',
      [id],
    )) {
      entryOf(row.document).plan = parseJson<Plan>(row.plan);
      entryOf(row.document).ending = parseJson<DocumentResult>(row.ending);
    }
    for (const { document } of this.#all<{ document: number }>(
      `SELECT json_extract(body, '$.document') AS document FROM events
       WHERE run = ? AND file IS NULL AND json_extract(body, '$.kind') = 'planned'`,
      [id],
    ))
      entryOf(document).wasPlanned = true;
    for (const row of this.#all<{ document: number; idx: number; ms: number | null; ending: string | null }>(
      'SELECT document, idx, ms, ending FROM steps WHERE run = ?',
      [id],
    )) {
      const ending = parseJson<StepResult>(row.ending);
      entryOf(row.document).steps.set(
        row.idx,
        ending
          ? { ending, ms: row.ms ?? 0 }
          : { offset: this.#countReportedBytes(id, `${row.document}-${row.idx}.log`) },
      );
    }
    return found;
  }

  /** Replaces the result of a document that another run has undone. */
  replaceResult(id: string, document: number, ending: DocumentResult): void {
    this.#sync(true);
    this.#run('UPDATE documents SET ending = ? WHERE run = ? AND document = ?', [JSON.stringify(ending), id, document]);
  }

  /** Returns the number of bytes of a step's log that were reported. */
  #countReportedBytes(id: string, name: string): number {
    const row = this.#get<{ reported: number | null }>(
      `SELECT max(offset + length) AS reported FROM events WHERE run = ? AND file LIKE '%/' || ?`,
      [id, name],
    );
    return row?.reported ?? 0;
  }

  /** Lists runs, the newest first, starting after the run `before`; with `trust`, only those of that trust entry. */
  list(limit: number, before?: string, trust?: string): ListedRun[] {
    const from = before === undefined ? undefined : this.find(before);
    const where = [...(from ? ['(created_at, id) < (?, ?)'] : []), ...(trust === undefined ? [] : ['trust = ?'])];
    const values = [...(from ? [from.createdAt, from.id] : []), ...(trust === undefined ? [] : [trust]), limit];
    const condition = where.length > 0 ? `WHERE ${where.join(' AND ')}` : '';
    return this.#all<ListedRun>(`${SELECT_LISTED} ${condition} ${NEWEST_FIRST}`, values);
  }

  /** Returns the oldest ended runs as long as a limit is exceeded: created before `before` (ISO 8601), more than `runs`, or more than `bytes`. */
  findPrunable(limits: { before: string; runs: number; bytes: number }, max: number): string[] {
    const total = this.#get<{ runs: number; bytes: number }>(
      'SELECT count(*) AS runs, total(bytes) AS bytes FROM runs',
      [],
    );
    if (!total) return [];
    const ids: string[] = [];
    for (const run of this.#all<{ id: string; bytes: number; at: string }>(
      `SELECT id, bytes, created_at AS at FROM runs WHERE state = 'ended' ORDER BY created_at, id LIMIT ?`,
      [max],
    )) {
      if (run.at >= limits.before && total.runs <= limits.runs && total.bytes <= limits.bytes) break;
      ids.push(run.id);
      total.runs--;
      total.bytes -= run.bytes;
    }
    return ids;
  }

  /** Deletes a run with its events, steps and documents. */
  delete(id: string): void {
    this.#sync(true);
    this.#db.transaction(() => {
      for (const table of ['events', 'steps', 'documents']) this.#run(`DELETE FROM ${table} WHERE run = ?`, [id]);
      this.#run('DELETE FROM runs WHERE id = ?', [id]);
    });
  }

  find(id: string): StoredRun | undefined {
    return this.#get<StoredRun>(`${SELECT_RUN} WHERE id = ?`, [id]);
  }

  /** Counts the runs (not plans) that started under a trust entry since a time (ISO 8601). */
  countSince(trust: string, since: string): number {
    const row = this.#get<{ count: number }>(
      `SELECT count(*) AS count FROM runs WHERE trust = ? AND created_at > ? AND type = 'run'
         AND NOT coalesce(json_extract(command, '$.dry_run'), 0)`,
      [trust, since],
    );
    return row?.count ?? 0;
  }

  /** Lists the runs that have not ended, the oldest first. */
  open(): StoredRun[] {
    return this.#all<StoredRun>(`${SELECT_RUN} WHERE state <> 'ended' ORDER BY created_at, rowid`, []);
  }

  /** Returns the frames after number `after`, at most `limit`, encoded again from the stored events. */
  frames(id: string, after: number, limit: number): { n: number; frame: Frame }[] {
    const rows = this.#all<EventRow>(
      'SELECT n, at, body, file, offset, length FROM events WHERE run = ? AND n > ? ORDER BY n LIMIT ?',
      [id, after, limit],
    );
    return rows.map(row => ({ n: row.n, frame: readFrame(row) }));
  }

  /** Throws if the database can't be written. */
  probe(): void {
    this.#db.transaction(() => undefined);
  }

  close(): void {
    this.#db.close();
  }

  /** Output need not reach the disk before it is reported: its bytes are in the step's log already. */
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

function parseJson<T>(text: string | null): T | undefined {
  return text === null ? undefined : (JSON.parse(text) as T);
}
