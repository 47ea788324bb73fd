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

interface Listed {
  id: string;
  state: string;
  outcome: string | null;
}

const END_WITHIN = 150_000;

/** The newest run of the host, when it has ended; undefined where it does not in time. */
export async function newestEnded(bench: Bench): Promise<Listed | undefined> {
  const deadline = Date.now() + END_WITHIN;
  while (Date.now() < deadline) {
    const [run] = await newest(bench);
    if (run?.state === 'ended') return run;
    await sleep(100);
  }
  return undefined;
}

/** By the agent's own socket. */
export function newest(bench: Bench): Promise<Listed[]> {
  return new Promise((done, fail) => {
    const asked = request(
      { socketPath: join(bench.world.host.state, 'agent.sock'), path: '/runs?limit=1', headers: { host: 'agent' } },
      response => {
        let text = '';
        response.setEncoding('utf8').on('data', chunk => {
          text += chunk;
        });
        response.on('end', () => done((JSON.parse(text) as { runs: Listed[] }).runs));
      },
    );
    asked.on('error', fail);
    asked.end();
  });
}

/** What is wrong after a round. `job` is absent where it was killed. */
export async function judge(bench: Bench, run: Listed | undefined, job: Finished | undefined): Promise<Verdict> {
  const verdict: Verdict = { lost: [], doubled: [], down: [], locks: [], orphans: [] };
  if (run === undefined) verdict.lost.push('the run did not end');
  else {
    const record = await readRecord(bench, run.id);
    judgeRecord(record, verdict);
    judgeOrders(bench, run.id, record, verdict);
    if (job && job.outputs['run-id'] === run.id && job.outputs.status !== record.receipt.outcome)
      verdict.lost.push(
        `the job says ${job.outputs.status} (${job.outputs.reason}), the receipt ${record.receipt.outcome}`,
      );
    if (job && job.outputs.status === 'refused' && job.log.includes(`run ${run.id}`))
      verdict.lost.push(`the job was told of the run and ended refused: ${job.outputs.reason}`);
  }
  const why = await bench.down();
  if (why !== undefined) verdict.down.push(why);
  const metrics = await bench.world.host.metrics();
  for (const name of ['chatops_runs_in_progress', 'chatops_run_queue_length']) {
    if (!metrics.includes(`\n${name} 0\n`)) verdict.locks.push(`${name} is not 0`);
  }
  for (let tries = 0; tries < 30 && bench.steps().length + bench.keepers().length > 0; tries++) await sleep(100);
  verdict.orphans.push(...bench.steps().map(pid => `step ${pid}`), ...bench.keepers().map(pid => `keeper ${pid}`));
  return verdict;
}

interface Record_ {
  frames: string[];
  events: Event[];
  receipt: Receipt;
}

/** The run's events and receipt as any follower gets them, from the first one on. */
async function readRecord(bench: Bench, run: string): Promise<Record_> {
  const { approval, intents, files, params, dry_run, ...rest } = command([]);
  const client = new Client(bench.world.host.url);
  await client.send({ ...rest, type: 'follow', id: randomUUID(), run, after: 0 }, bench.world.host.keys.secret);
  const receipt = (await client.receipt()) as unknown as Receipt;
  const frames = client.texts.filter(text => (decodeFrame(text) as { type: string }).type === 'event');
  await client.end();
  return { frames, receipt, events: frames.map(text => decodeFrame(text) as Event) };
}

function judgeRecord({ frames, events, receipt }: Record_, { lost, doubled }: Verdict): void {
  if (events.some((event, index) => event.n !== index + 1)) lost.push('the events have a gap');
  if (receipt.events !== events.length)
    lost.push(`the receipt counts ${receipt.events} events, there are ${events.length}`);
  if (frames.reduce((digest, frame) => chainDigest(digest, frame), EMPTY_DIGEST) !== receipt.events_digest)
    lost.push('the digest differs');
  const started = new Map<string, number>();
  const finished = new Map<string, number>();
  for (const event of events) {
    if (event.kind !== 'step-started' && event.kind !== 'step-finished') continue;
    const counts = event.kind === 'step-started' ? started : finished;
    const key = `${event.document} ${event.step}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  for (const [key, count] of started) {
    if (count > 1) doubled.push(`${key} was begun ${count} times`);
    if (finished.get(key) !== 1) lost.push(`${key} was begun and finished ${finished.get(key) ?? 0} times`);
  }
}

/** A process may be started again for a step only where the log says why. */
function judgeOrders(bench: Bench, run: string, { events }: Record_, { doubled }: Verdict): void {
  const orders = readdirSync(join(bench.world.host.state, 'runs', run)).filter(name => name.endsWith('.order'));
  const again = orders.filter(name => !name.endsWith('-1.order')).length;
  const told = events.filter(
    event => event.kind === 'output' && /the step runs again|may be temporary; trying again/.test(event.text),
  ).length;
  if (again > told) doubled.push(`${again} processes were started again, ${told} were told of`);
}
