import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Database } from '../agent/store/database.ts';
import { RunStore } from '../agent/store/runs.ts';
import { median } from './pairs.ts';

const RUNS = 1_000_000;
const PAGE = 50;
const ROUNDS = 200;

/** Measures the time to read a page of the history from a million stored runs. */
export function history(dir: string): void {
  const file = join(dir, 'history.db');
  new RunStore(new Database(file)).close();
  const db = new DatabaseSync(file);
  db.exec('BEGIN');
  const insert = db.prepare(
    `INSERT INTO runs (id, digest, type, trust, key_id, address, command, title, state, outcome, receipt, created_at, ended_at, head, bytes)
     VALUES (?, 'd', 'run', 'homelab', 'k', '100.64.0.9', ?, 'rollout on stack-media', 'ended', 'succeeded', ?, ?, ?, 'h', 20000)`,
  );
  const text = JSON.stringify({ filler: 'x'.repeat(200) });
  for (let n = 0; n < RUNS; n++) {
    const at = new Date(Date.UTC(2020) + n * 60_000).toISOString();
    insert.run(`run-${String(n).padStart(9, '0')}`, text, text, at, at);
  }
  db.exec('COMMIT');
  db.close();
  const store = new RunStore(new Database(file));
  const first: number[] = [];
  const deep: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    first.push(timed(() => store.list(PAGE)));
    const from = `run-${String(((round * 4999) % RUNS) + PAGE).padStart(9, '0')}`;
    deep.push(timed(() => store.list(PAGE, from)));
  }
  store.close();
  console.log(
    `history of ${RUNS} runs: a page of ${PAGE} in ${median(first).toFixed(2)} ms, from a random position in ${median(deep).toFixed(2)} ms, at most ${Math.max(...first, ...deep).toFixed(2)} ms (goal 10)`,
  );
}

function timed(work: () => unknown[]): number {
  const started = performance.now();
  if (work().length !== PAGE) throw new Error('The page is not complete');
  return performance.now() - started;
}
