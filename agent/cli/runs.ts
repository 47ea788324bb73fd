import { userInfo } from 'node:os';
import { parseArgs } from 'node:util';
import type { Answer } from '../../protocol/question.ts';
import { Receipt } from '../../protocol/receipt.ts';
import type { ListedRun } from '../store/runs.ts';
import { AGENT_OPTIONS, findSocket, requestAgent } from './local-client.ts';
import { showLog, showReceipt } from './print-run.ts';
import { cliRefusals } from './refusals.ts';
import { createRemoteAgent, REMOTE_OPTIONS } from './remote.ts';

/** Lists runs, the newest first; with an id shows that one. */
export async function runsCommand(args: string[]): Promise<number> {
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
  const remote = createRemoteAgent(values);
  if (remote && id !== undefined) return showRun(await remote.ask({ about: 'run', run: id }), values.json);
  if (remote) return print(await remote.list(Number(values.limit), values.before), values.json);
  const socket = findSocket(values);
  if (id !== undefined) return showRun(await requestAgent<Answer<'run'>>(socket, 'GET', `/runs/${id}`), values.json);
  const query = new URLSearchParams({
    limit: values.limit,
    ...(values.before === undefined ? {} : { before: values.before }),
  });
  const { runs: listed } = await requestAgent<{ runs: ListedRun[] }>(socket, 'GET', `/runs?${query}`);
  return print(listed, values.json);
}

function print(listed: ShownRun[], json: boolean): number {
  if (json) console.log(JSON.stringify(listed, null, 2));
  else for (const run of listed) console.log(formatRun(run));
  return 0;
}

function showRun(run: Answer<'run'>, json: boolean): number {
  if (json) console.log(JSON.stringify(run, null, 2));
  else {
    console.log(formatRun(run));
    const receipt = Receipt.safeParse(run.receipt);
    if (receipt.success) showReceipt(receipt.data);
  }
  return 0;
}

/** Shows what a run has told; with --follow until its end. Without an id: the newest run. */
export async function logsCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { ...AGENT_OPTIONS, ...REMOTE_OPTIONS, follow: { type: 'boolean', short: 'f', default: false } },
  });
  const remote = createRemoteAgent(values);
  if (remote) {
    const [id = (await remote.list(1, undefined))[0]?.id] = positionals;
    if (id === undefined) throw cliRefusals.noRuns();
    return isSuccessful(await remote.show({ follow: id })) ? 0 : 1;
  }
  const socket = findSocket(values);
  const [id = await findNewestRun(socket)] = positionals;
  const receipt = await showLog(socket, id, values);
  return receipt === undefined || isSuccessful(receipt) ? 0 : 1;
}

/** Asks a run to end, and shows how it does. */
export async function cancelCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { ...AGENT_OPTIONS, ...REMOTE_OPTIONS },
  });
  const [id] = positionals;
  if (id === undefined) {
    throw cliRefusals.wrongCall('usage: chatops cancel RUN [--config FILE | --socket PATH | --agent …] [--json]');
  }
  const remote = createRemoteAgent(values);
  if (remote) return (await remote.cancel(id)).outcome === 'cancelled' ? 0 : 1;
  const socket = findSocket(values);
  await requestAgent(socket, 'POST', `/runs/${id}/cancel`, { actor: userInfo().username });
  const receipt = await showLog(socket, id, { follow: true, json: values.json });
  return receipt?.outcome === 'cancelled' ? 0 : 1;
}

export function isSuccessful({ outcome }: Receipt): boolean {
  return outcome === 'succeeded' || outcome === 'planned';
}

async function findNewestRun(socket: string): Promise<string> {
  const { runs: listed } = await requestAgent<{ runs: ListedRun[] }>(socket, 'GET', '/runs?limit=1');
  if (!listed[0]) throw cliRefusals.noRuns();
  return listed[0].id;
}

type ShownRun = Pick<ListedRun, 'id' | 'title' | 'createdAt' | 'outcome'> & { state: string; cancel?: unknown };

function formatRun({ id, createdAt, state, outcome, title, cancel = null }: ShownRun): string {
  const how = outcome ?? (cancel === null ? state : `${state}, being cancelled`);
  return `${id}  ${createdAt.replace('T', ' ').slice(0, 19)}  ${how.padEnd(11)}  ${title}`;
}
