import { userInfo } from 'node:os';
import type { Answer } from '../../../protocol/question.ts';
import { Receipt } from '../../../protocol/receipt.ts';
import type { ListedRun } from '../../store/runs.ts';
import type { Arguments, Options } from '../commands.ts';
import { findSocket, requestAgent } from '../local-client.ts';
import { showLog, showReceipt } from '../print-run.ts';
import { cliRefusals } from '../refusals.ts';
import { createRemoteAgent } from '../remote.ts';

/** Lists runs, newest first; with an id shows that run. */
export async function runsCommand([id]: Arguments<'runs'>, options: Options<'runs'>): Promise<number> {
  const { limit, before, json } = options;
  if (!/^[1-9]\d{0,5}$/.test(limit)) throw cliRefusals.optionInvalid(`--limit ${limit}`, 'Write a number from 1.');
  const remote = createRemoteAgent(options);
  if (remote && id !== undefined) return showRun(await remote.ask({ about: 'run', run: id }), json);
  if (remote) return printRuns(await remote.list(Number(limit), before), json);
  const socket = findSocket(options);
  if (id !== undefined) return showRun(await requestAgent<Answer<'run'>>(socket, 'GET', `/runs/${id}`), json);
  const query = new URLSearchParams({ limit, ...(before === undefined ? {} : { before }) });
  const { runs } = await requestAgent<{ runs: ListedRun[] }>(socket, 'GET', `/runs?${query}`);
  return printRuns(runs, json);
}

function printRuns(runs: ShownRun[], json: boolean): number {
  if (json) console.log(JSON.stringify(runs, null, 2));
  else for (const run of runs) console.log(formatRun(run));
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

/** Shows the log of a run, with `--follow` until the run ends. Without an id: the newest run. */
export async function logsCommand([given]: Arguments<'logs'>, options: Options<'logs'>): Promise<number> {
  const remote = createRemoteAgent(options);
  if (remote) {
    const id = given ?? (await remote.list(1, undefined))[0]?.id;
    if (id === undefined) throw cliRefusals.noRuns();
    return isSuccessful(await remote.show({ follow: id })) ? 0 : 1;
  }
  const socket = findSocket(options);
  const receipt = await showLog(socket, given ?? (await findNewestRun(socket)), options);
  return receipt === undefined || isSuccessful(receipt) ? 0 : 1;
}

/** Cancels a run and shows how it ends. */
export async function cancelCommand([id]: Arguments<'cancel'>, options: Options<'cancel'>): Promise<number> {
  const remote = createRemoteAgent(options);
  if (remote) return (await remote.cancel(id)).outcome === 'cancelled' ? 0 : 1;
  const socket = findSocket(options);
  await requestAgent(socket, 'POST', `/runs/${id}/cancel`, { actor: userInfo().username });
  const receipt = await showLog(socket, id, { follow: true, json: options.json });
  return receipt?.outcome === 'cancelled' ? 0 : 1;
}

export function isSuccessful({ outcome }: Receipt): boolean {
  return outcome === 'succeeded' || outcome === 'planned';
}

async function findNewestRun(socket: string): Promise<string> {
  const { runs } = await requestAgent<{ runs: ListedRun[] }>(socket, 'GET', '/runs?limit=1');
  if (!runs[0]) throw cliRefusals.noRuns();
  return runs[0].id;
}

type ShownRun = Pick<ListedRun, 'id' | 'title' | 'createdAt' | 'outcome'> & { state: string; cancel?: unknown };

function formatRun({ id, createdAt, state, outcome, title, cancel = null }: ShownRun): string {
  const status = outcome ?? (cancel === null ? state : `${state}, cancelling`);
  return `${id}  ${createdAt.replace('T', ' ').slice(0, 19)}  ${status.padEnd(11)}  ${title}`;
}
