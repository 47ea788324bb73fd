import { userInfo } from 'node:os';
import { parseArgs } from 'node:util';
import type { Receipt } from '../../protocol/receipt.ts';
import type { ListedRun } from '../store.ts';
import { AGENT_OPTIONS, ask, socketOf } from './ask.ts';
import { REMOTE_OPTIONS, remoteOf } from './remote.ts';
import { showLog, showReceipt } from './show.ts';

/** Lists runs, the newest first; with an id shows that one. */
export async function runs(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      ...AGENT_OPTIONS,
      ...REMOTE_OPTIONS,
      limit: { type: 'string', default: '20' },
      before: { type: 'string' },
    },
  });
  const [id] = positionals;
  const remote = remoteOf(values);
  if (remote) {
    if (id !== undefined) throw new Error('Of a run elsewhere its log tells: chatops logs RUN --agent …');
    return print(await remote.list(Number(values.limit), values.before), values.json);
  }
  const socket = socketOf(values);
  if (id !== undefined) return showRun(socket, id, values.json);
  const query = new URLSearchParams({
    limit: values.limit,
    ...(values.before === undefined ? {} : { before: values.before }),
  });
  const { runs: listed } = await ask<{ runs: ListedRun[] }>(socket, 'GET', `/runs?${query}`);
  return print(listed, values.json);
}

function print(listed: Shown[], json: boolean): number {
  if (json) console.log(JSON.stringify(listed, null, 2));
  else for (const run of listed) console.log(lineOf(run));
  return 0;
}

async function showRun(socket: string, id: string, json: boolean): Promise<number> {
  const run = await ask<ListedRun & { receipt: Receipt | null }>(socket, 'GET', `/runs/${id}`);
  if (json) console.log(JSON.stringify(run, null, 2));
  else {
    console.log(lineOf(run));
    if (run.receipt) showReceipt(run.receipt);
  }
  return 0;
}

/** Shows what a run has told; with --follow until its end. Without an id: the newest run. */
export async function logs(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { ...AGENT_OPTIONS, ...REMOTE_OPTIONS, follow: { type: 'boolean', short: 'f', default: false } },
  });
  const remote = remoteOf(values);
  if (remote) {
    const [id = (await remote.list(1, undefined))[0]?.id] = positionals;
    if (id === undefined) throw new Error(NO_RUNS);
    return isGood(await remote.show({ follow: id })) ? 0 : 1;
  }
  const socket = socketOf(values);
  const [id = await newest(socket)] = positionals;
  const receipt = await showLog(socket, id, values);
  return receipt === undefined || isGood(receipt) ? 0 : 1;
}

/** Asks a run to end, and shows how it does. */
export async function cancel(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { ...AGENT_OPTIONS, ...REMOTE_OPTIONS },
  });
  const [id] = positionals;
  if (id === undefined) {
    process.stderr.write('usage: chatops cancel RUN [--config FILE | --socket PATH | --agent …] [--json]\n');
    return 2;
  }
  const remote = remoteOf(values);
  if (remote) return (await remote.cancel(id)).outcome === 'cancelled' ? 0 : 1;
  const socket = socketOf(values);
  await ask(socket, 'POST', `/runs/${id}/cancel`, { actor: userInfo().username });
  const receipt = await showLog(socket, id, { follow: true, json: values.json });
  return receipt?.outcome === 'cancelled' ? 0 : 1;
}

export function isGood({ outcome }: Receipt): boolean {
  return outcome === 'succeeded' || outcome === 'planned';
}

async function newest(socket: string): Promise<string> {
  const { runs: listed } = await ask<{ runs: ListedRun[] }>(socket, 'GET', '/runs?limit=1');
  if (!listed[0]) throw new Error(NO_RUNS);
  return listed[0].id;
}

type Shown = Pick<ListedRun, 'id' | 'title' | 'createdAt' | 'outcome'> & { state: string; cancel?: unknown };
const NO_RUNS = 'There are no runs yet.';

function lineOf({ id, createdAt, state, outcome, title, cancel = null }: Shown): string {
  const how = outcome ?? (cancel === null ? state : `${state}, being cancelled`);
  return `${id}  ${createdAt.replace('T', ' ').slice(0, 19)}  ${how.padEnd(11)}  ${title}`;
}
