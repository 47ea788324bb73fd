import { randomUUID } from 'node:crypto';
import type { CommandTask } from '../client/command.ts';
import type { AgentAddress } from '../client/deliver.ts';
import type { DocumentOutcome } from '../intents/graph.ts';
import type { LoadedIntent } from '../intents/load.ts';
import type { FinishedDocument } from '../protocol/command.ts';
import type { Receipt } from '../protocol/receipt.ts';
import { Refused } from '../protocol/refusal.ts';
import { type Driven, drive, type Sent } from './drive.ts';
import type { Inputs } from './inputs.ts';
import type { Sender } from './one-run.ts';
import type { Prepared } from './prepare.ts';

/** Sends the commands, each when its turn comes. One host's refusal is its own where there are several commands, and else thrown. */
export async function carry(prepared: Prepared, inputs: Inputs, sender: Sender, receipts: Receipt[]): Promise<Driven> {
  const { documents, agents, nodes, units, files } = prepared;
  const isOne = units.length === 1 && units[0]?.target.waves.flat().length === 1;
  const order = units.flatMap(unit => unit.target.waves.flat().map(host => ({ unit, host })));
  const digestFor = (host: string, places: number[]) =>
    inputs.planDigests[order.findIndex(one => one.host === host && one.unit.places.includes(places[0] ?? -1))];
  const taskOf = (places: number[], ended: readonly (DocumentOutcome | undefined)[]): CommandTask => {
    const intents = places.flatMap(place => documents[place] ?? []);
    return {
      ...prepared.task,
      id: randomUUID(),
      intents,
      files: files.filter(({ stack }) => intents.some(({ intent }) => 'stack' in intent && intent.stack === stack)),
      ...(isOne ? {} : { indexes: places, given: givenOf(documents, places, ended) }),
    };
  };
  const tasks = new Map<Sent, CommandTask>();
  const deliverTo = async (host: string, places: number[], task: CommandTask): Promise<Sent> => {
    const agent = agents.get(host) as AgentAddress;
    let sent: Sent;
    try {
      const receipt = await sender.run(task, agent);
      receipts.push(receipt);
      sent = { host, places, receipt };
    } catch (error) {
      if (!(error instanceof Refused) || isOne) throw error;
      const { code, message, remedy } = error.refusal;
      await sender.say(`✗ ${host}: ${code}: ${message}`);
      sent = { host, places, refusal: { code, message: `${host}: ${message}`, remedy } };
    }
    tasks.set(sent, task);
    return sent;
  };
  return drive({
    nodes,
    units,
    looksOnly: inputs.mode !== 'run',
    isCancelled: () => sender.isStopped,
    send(host, places, ended) {
      const planDigest = inputs.mode === 'run' ? digestFor(host, places) : undefined;
      return deliverTo(host, places, { ...taskOf(places, ended), planDigest });
    },
    async recall(sent) {
      const [task, agent] = [tasks.get(sent) as CommandTask, agents.get(sent.host) as AgentAddress];
      await sender.say(`${sent.host}: the run ${task.id} is called back`);
      const receipt = await sender.recall(task, agent);
      await sender.say(`${sent.host}: ${receipt?.outcome ?? 'how it ended can’t be learnt: it goes on there'}`);
      if (!receipt) return undefined;
      receipts.push(receipt);
      const recalled: Sent = { host: sent.host, places: sent.places, receipt };
      tasks.set(recalled, task);
      return recalled;
    },
    async undo(sent, places) {
      const { planDigest, ...task } = tasks.get(sent) as CommandTask;
      const undo = { run: task.id, documents: places.map(place => sent.places.indexOf(place) + 1) };
      return deliverTo(sent.host, sent.places, { ...task, id: randomUUID(), files: [], undo });
    },
  });
}

/** What an agent must know of the documents that others carry: how they have ended. */
function givenOf(
  documents: LoadedIntent[],
  places: number[],
  ended: readonly (DocumentOutcome | undefined)[],
): FinishedDocument[] {
  return documents.flatMap(({ name, document, intent }, place) => {
    const outcome = ended[place];
    if (outcome === undefined || places.includes(place)) return [];
    const { action, id, host, hosts, on_failure } = intent;
    return [{ place, name, document, outcome, intent: { action, id, host, hosts, on_failure } }];
  });
}
