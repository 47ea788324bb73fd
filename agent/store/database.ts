import { chmodSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { MIGRATIONS } from './migrations.ts';

type SqlValue = string | number | null;

/** The state can't be used. The message says what to do. */
class StateError extends Error {
  override name = 'StateError';
  readonly code: string;

  constructor(code: 'state-in-use' | 'state-newer', message: string) {
    super(message);
    this.code = code;
  }
}

/** A SQLite file (WAL, mode 0600) with the newest schema, and its prepared statements. */
export class Database {
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #durable = true;

  /** Opens or creates `file` for this process alone. Throws if a newer version wrote it or another process uses it. */
  constructor(file: string, lockTimeoutMs = 5_000) {
    this.#db = new DatabaseSync(file, { timeout: lockTimeoutMs });
    chmodSync(file, 0o600);
    try {
      // Exclusive: two agents with one state would execute each run twice. The lock ends with the process.
      this.#db.exec(
        'PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; BEGIN IMMEDIATE; COMMIT;',
      );
    } catch (error) {
      this.#db.close();
      if ((error as { errcode?: number }).errcode !== 5) throw error;
      throw new StateError(
        'state-in-use',
        `${file} is in use: another agent runs with this state_dir. Stop it, or give each agent its own state_dir.`,
      );
    }
    this.#migrate(file);
  }

  /** Sets if the next statements reach the disk before they return. */
  setDurable(durable: boolean): void {
    if (this.#durable === durable) return;
    this.#db.exec(`PRAGMA synchronous = ${durable ? 'FULL' : 'NORMAL'}`);
    this.#durable = durable;
  }

  run(sql: string, values: SqlValue[] = []): void {
    this.#prepare(sql).run(...values);
  }

  all<T>(sql: string, values: SqlValue[] = []): T[] {
    return this.#prepare(sql).all(...values) as T[];
  }

  get<T>(sql: string, values: SqlValue[] = []): T | undefined {
    return this.#prepare(sql).get(...values) as T | undefined;
  }

  /** Commits all of `work` or nothing. */
  transaction(work: () => void): void {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      work();
      this.#db.exec('COMMIT');
    } catch (error) {
      // SQLite has rolled back already if the disk is full.
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
  }

  close(): void {
    this.#statements.clear();
    this.#db.close();
  }

  #migrate(file: string): void {
    const { user_version: version } = this.#db.prepare('PRAGMA user_version').get() as { user_version: number };
    if (version > MIGRATIONS.length) {
      throw new StateError(
        'state-newer',
        `${file} was written by a newer chatops (version ${version}). Install that version again, or move the file away.`,
      );
    }
    for (const [index, sql] of MIGRATIONS.entries()) {
      if (index < version) continue;
      this.#db.exec(`BEGIN; ${sql} PRAGMA user_version = ${index + 1}; COMMIT;`);
    }
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}
