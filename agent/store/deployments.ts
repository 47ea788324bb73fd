import type { Database } from './database.ts';

/** A document of a run that deploys a commit. `sourceDir` is empty if it ships no folder. */
export interface DeployedKey {
  repository: string;
  stack: string;
  intent: string;
  sourceDir: string;
}

/** The commit up to which the content of a document is approved, and the time of its deployment (ISO 8601). */
export interface LastDeployment {
  sha: string;
  at: string;
  /** True if the document itself was not deployed yet: the commit is that of another one. */
  isFirst: boolean;
}

/** The commits that were deployed last. A run counts from its start, and no longer if it did not deploy the document. */
export class DeploymentStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  begin(run: string, sha: string, at: string, keys: readonly DeployedKey[]): void {
    for (const { repository, stack, intent, sourceDir } of keys)
      this.#db.run(
        'INSERT INTO deployments (run, sha, at, repository, stack, intent, source_dir) VALUES (?, ?, ?, ?, ?, ?, ?)',
        [run, sha, at, repository.toLowerCase(), stack, intent, sourceDir],
      );
  }

  /** Lists the documents of a run whose content is a baseline: nothing of their repository was deployed before. */
  baselinesOf(run: string): (Pick<DeployedKey, 'stack' | 'intent'> & { sha: string })[] {
    return this.#db.all(
      `SELECT stack, intent, sha FROM deployments AS own WHERE run = ? AND NOT EXISTS
         (SELECT 1 FROM deployments WHERE repository = own.repository AND run <> own.run AND n < own.n)`,
      [run],
    );
  }

  /** Keeps the documents of a run that were deployed, and only the newest deployment of each document. */
  end(run: string, isDeployed: (document: Pick<DeployedKey, 'stack' | 'intent'>) => boolean): void {
    const rows = this.#db.all<Pick<DeployedKey, 'stack' | 'intent'> & { n: number }>(
      'SELECT n, stack, intent FROM deployments WHERE run = ?',
      [run],
    );
    for (const { n, ...document } of rows) {
      if (!isDeployed(document)) {
        this.#db.run('DELETE FROM deployments WHERE n = ?', [n]);
        continue;
      }
      this.#db.run('UPDATE deployments SET is_open = 0 WHERE n = ?', [n]);
      this.#db.run(
        `DELETE FROM deployments WHERE is_open = 0 AND n < ? AND stack = ? AND intent = ?
           AND repository = (SELECT repository FROM deployments WHERE n = ?)`,
        [n, document.stack, document.intent, n],
      );
    }
  }

  /**
   * Returns the last deployment of a document. If it was not deployed yet, returns that of a document that ships the same
   * folder, of its stack, or of its repository.
   */
  last({ repository, stack, intent, sourceDir }: DeployedKey): LastDeployment | undefined {
    const newest = (where: string, ...values: string[]) =>
      this.#db.get<{ sha: string; at: string }>(
        `SELECT sha, at FROM deployments WHERE repository = ? ${where} ORDER BY n DESC LIMIT 1`,
        [repository.toLowerCase(), ...values],
      );
    const own = newest('AND stack = ? AND intent = ?', stack, intent);
    if (own) return { ...own, isFirst: false };
    const other =
      (sourceDir === '' ? undefined : newest('AND source_dir = ?', sourceDir)) ??
      newest('AND stack = ?', stack) ??
      newest('');
    return other && { ...other, isFirst: true };
  }
}
