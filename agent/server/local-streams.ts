import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { decodeFrame } from '../../protocol/event.ts';
import type { RunRegistry } from '../runs/registry.ts';
import type { StoredRun } from '../store/runs.ts';
import type { Queries } from './queries.ts';

/** Sends the whole audit log as JSON lines, at the reader's pace. */
export async function streamAudit(queries: Pick<Queries, 'auditPages'>, response: ServerResponse): Promise<undefined> {
  response.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
  for (const rows of queries.auditPages(0)) {
    if (response.destroyed) break;
    await writeLines(response, rows);
  }
  response.end();
}

/**
 * Sends the events of a run as JSON lines, at the reader's pace. Query: `after`, the number of an event; `follow`, to
 * continue to the end of the run.
 */
export async function streamRunLog(
  runs: Pick<RunRegistry, 'follow'>,
  run: StoredRun,
  query: URLSearchParams,
  response: ServerResponse,
): Promise<undefined> {
  const closed = new AbortController();
  response.on('close', () => closed.abort());
  response.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
  // Without "follow" the log ends with the last event that is stored now.
  const last = query.has('follow') ? Number.POSITIVE_INFINITY : run.events;
  let n = Number(query.get('after')) || 0;
  if (n < last || run.receipt !== null) {
    for await (const frame of runs.follow(run.id, n, closed.signal)) {
      await writeLines(response, [decodeFrame(String(frame))]);
      if (++n >= last && run.receipt === null) break;
    }
  }
  response.end();
}

async function writeLines(response: ServerResponse, values: readonly unknown[]): Promise<void> {
  const text = values.map(value => `${JSON.stringify(value)}\n`).join('');
  // A response that has closed neither drains nor closes again.
  if (response.destroyed || text === '' || response.write(text) || response.destroyed) return;
  await Promise.race([once(response, 'drain'), once(response, 'close')]);
}
