/** The history of the schema: one entry per version. The database's `user_version` says how many are applied. */
export const MIGRATIONS = [
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
  `CREATE TABLE documents (
     run TEXT NOT NULL REFERENCES runs (id), document INTEGER NOT NULL, plan TEXT, ending TEXT, PRIMARY KEY (run, document)
   ) STRICT, WITHOUT ROWID;
   INSERT INTO documents (run, document, plan) SELECT run, document, plan FROM plans;
   DROP TABLE plans;
   CREATE TABLE steps (
     run TEXT NOT NULL REFERENCES runs (id), document INTEGER NOT NULL, idx INTEGER NOT NULL, step TEXT NOT NULL, phase TEXT NOT NULL,
     ms INTEGER, ending TEXT, PRIMARY KEY (run, document, idx)
   ) STRICT, WITHOUT ROWID;
   ALTER TABLE runs ADD COLUMN title TEXT NOT NULL DEFAULT '';
   ALTER TABLE runs ADD COLUMN started_at TEXT;
   ALTER TABLE runs ADD COLUMN cancel TEXT;
   ALTER TABLE runs ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
   UPDATE runs SET title = coalesce(json_extract(command, '$.intents[0].intent.action') || ' on ' ||
     json_extract(command, '$.intents[0].intent.stack'), type);
   DROP INDEX runs_by_time;
   CREATE INDEX runs_by_time ON runs (created_at DESC, id DESC);
   CREATE INDEX runs_by_size ON runs (bytes);`,
  `CREATE TABLE backups (kind TEXT NOT NULL, name TEXT NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (kind, name)) STRICT, WITHOUT ROWID;`,
  `CREATE TABLE audit (n INTEGER PRIMARY KEY, at TEXT NOT NULL, body TEXT NOT NULL, digest TEXT NOT NULL) STRICT;`,
  `CREATE TABLE schedules (name TEXT PRIMARY KEY, last TEXT NOT NULL, run TEXT) STRICT, WITHOUT ROWID;`,
  `CREATE TABLE notices (
     id INTEGER PRIMARY KEY, channel TEXT NOT NULL, next INTEGER NOT NULL, tries INTEGER NOT NULL, notice TEXT NOT NULL
   ) STRICT;
   CREATE INDEX notices_due ON notices (channel, next);`,
  `CREATE TABLE deployments (
     n INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL, sha TEXT NOT NULL, at TEXT NOT NULL, repository TEXT NOT NULL,
     stack TEXT NOT NULL, intent TEXT NOT NULL, source_dir TEXT NOT NULL, is_open INTEGER NOT NULL DEFAULT 1
   ) STRICT;
   CREATE INDEX deployments_by_stack ON deployments (repository, stack, intent);
   CREATE INDEX deployments_by_run ON deployments (run);
   INSERT INTO deployments (run, sha, at, repository, stack, intent, source_dir, is_open)
     SELECT runs.id, json_extract(command, '$.origin.sha'), created_at, lower(json_extract(command, '$.origin.repository')),
       coalesce(json_extract(value, '$.intent.stack'), ''), json_extract(value, '$.name'),
       coalesce(json_extract(value, '$.intent.source_dir'), ''), state <> 'ended'
     FROM runs, json_each(runs.command, '$.intents')
     WHERE runs.type = 'run' AND (outcome = 'succeeded' OR state <> 'ended') AND NOT json_extract(command, '$.dry_run')
       AND json_extract(command, '$.undo') IS NULL AND json_extract(command, '$.origin.sha') GLOB '*[1-9a-f]*'
     ORDER BY created_at, runs.rowid;`,
];
