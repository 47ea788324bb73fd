import { randomUUID } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chainDigest, decodeFrame, EMPTY_DIGEST, type Event } from '../../protocol/event.ts';
import type { Receipt } from '../../protocol/receipt.ts';
import type { Finished } from '../stand/runner.ts';
import { Client, command } from '../stand/signer.ts';
import type { Bench } from './bench.ts';

export interface Verdict {
  lost: string[];
  doubled: string[];
  down: string[];
  locks: string[];
  orphans: string[];
}

interface ListedRun {
  id: string;
  state: string;
  outcome: string | null;
}

const END_TIMEOUT_MS = 150_000;

/** Waits for the end of the newest run of the host. Returns undefined if it does not finish in time. */
export async function waitForNewestRun(bench: Bench): Promise<ListedRun | undefined> {
  const deadline = Date.now() + END_TIMEOUT_MS;
  while (Date.now() < deadline) {
    const [run] = await newestRuns(bench);
    if (run?.state === 'ended') return run;
    await sleep(100);
  }
  return undefined;
}

/** Lists the newest run through the agent's socket. */
export function newestRuns(bench: Bench): Promise<ListedRun[]> {
  return new Promise((done, fail) => {
    const outgoing = request(
      { socketPath: join(bench.world.host.state, 'agent.sock'), path: '/runs?limit=1', headers: { host: 'agent' } },
      response => {
        let text = '';
        response.setEncoding('utf8').on('data', chunk => {
          text += chunk;
        });
        response.on('end', () => done((JSON.parse(text) as { runs: ListedRun[] }).runs));
      },
    );
    outgoing.on('error', fail);
    outgoing.end();
  });
}

/** Checks the host after a round. `job` is absent if it was killed. */
export async function checkRound(
  bench: Bench,
  run: ListedRun | undefined,
  job: Finished | undefined,
): Promise<Verdict> {
  const verdict: Verdict = { lost: [], doubled: [], down: [], locks: [], orphans: [] };
  if (run === undefined) verdict.lost.push('the run did not finish');
  else {
    const record = await readRecord(bench, run.id);
    checkRecord(record, verdict);
    checkOrders(bench, run.id, record, verdict);
    if (job && job.outputs['run-id'] === run.id && job.outputs.status !== record.receipt.outcome)
      verdict.lost.push(
        `the job reports ${job.outputs.status} (${job.outputs.reason}), the receipt ${record.receipt.outcome}`,
      );
    if (job && job.outputs.status === 'refused' && job.log.includes(`run ${run.id}`))
      verdict.lost.push(`the job logged the run and finished as refused: ${job.outputs.reason}`);
  }
  const cause = await bench.findDownService();
  if (cause !== undefined) verdict.down.push(cause);
  const metrics = await bench.world.host.metrics();
  for (const name of ['chatops_runs_in_progress', 'chatops_run_queue_length']) {
    if (!metrics.includes(`\n${name} 0\n`)) verdict.locks.push(`${name} is not 0`);
  }
  for (let attempts = 0; attempts < 30 && bench.steps().length + bench.supervisors().length > 0; attempts++)
    await sleep(100);
  verdict.orphans.push(
    ...bench.steps().map(pid => `step ${pid}`),
    ...bench.supervisors().map(pid => `supervisor ${pid}`),
  );
  return verdict;
}

interface RunRecord {
  frames: string[];
  events: Event[];
  receipt: Receipt;
}

/** The run's events and receipt, as a follower receives them from the first event. */
async function readRecord(bench: Bench, run: string): Promise<RunRecord> {
  const { approval, intents, files, params, dry_run, ...rest } = command([]);
  const client = new Client(bench.world.host.url);
  await client.send({ ...rest, type: 'follow', id: randomUUID(), run, after: 0 }, bench.world.host.keys.secret);
  const receipt = (await client.receipt()) as unknown as Receipt;
  const frames = client.texts.filter(text => (decodeFrame(text) as { type: string }).type === 'event');
  await client.end();
  return { frames, receipt, events: frames.map(text => decodeFrame(text) as Event) };
}

function checkRecord({ frames, events, receipt }: RunRecord, { lost, doubled }: Verdict): void {
  if (events.some((event, index) => event.n !== index + 1)) lost.push('the events have a gap');
  if (receipt.events !== events.length)
    lost.push(`the receipt counts ${receipt.events} events, but the run has ${events.length}`);
  if (frames.reduce((digest, frame) => chainDigest(digest, frame), EMPTY_DIGEST) !== receipt.events_digest)
    lost.push('the digest of the events differs');
  const started = new Map<string, number>();
  const finished = new Map<string, number>();
  for (const event of events) {
    if (event.kind !== 'step-started' && event.kind !== 'step-finished') continue;
    const counts = event.kind === 'step-started' ? started : finished;
    const key = `${event.document} ${event.step}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  for (const [key, count] of started) {
    if (count > 1) doubled.push(`${key} started ${count} times`);
    if (finished.get(key) !== 1) lost.push(`${key} started and finished ${finished.get(key) ?? 0} times`);
  }
}

/** Checks that the log has a reason for each process that was started again for a step. */
function checkOrders(bench: Bench, run: string, { events }: RunRecord, { doubled }: Verdict): void {
  const orders = readdirSync(join(bench.world.host.state, 'runs', run)).filter(name => name.endsWith('.order'));
  const restarts = orders.filter(name => !name.endsWith('-1.order')).length;
  const explained = events.filter(
    event => event.kind === 'output' && /the step runs again|may be temporary; trying again/.test(event.text),
  ).length;
  if (restarts > explained) doubled.push(`${restarts} processes were started again, the log explains ${explained}`);
}
