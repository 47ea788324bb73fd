import { randomUUID } from 'node:crypto';
import type { Task } from '../client/command.ts';
import type { AgentAddress } from '../client/deliver.ts';
import type { Ended } from '../intents/graph.ts';
import type { LoadedIntent } from '../intents/load.ts';
import type { Given } from '../protocol/command.ts';
import type { Receipt } from '../protocol/receipt.ts';
import { Refused } from '../protocol/refusal.ts';
import type { Inputs } from './inputs.ts';
import { type CommandResult, type OrchestrateResult, orchestrate } from './orchestrate.ts';
import type { Prepared } from './prepare.ts';
import type { CommandSender } from './sender.ts';

/** Sends the commands, each when its turn comes. One host's refusal is its own where there are several commands, and else thrown. */
export async function sendCommands(
  prepared: Prepared,
  inputs: Inputs,
  sender: CommandSender,
  receipts: Receipt[],
): Promise<OrchestrateResult> {
  const { documents, agents, nodes, batches, files } = prepared;
  const isOne = batches.length === 1 && batches[0]?.target.waves.flat().length === 1;
  const order = batches.flatMap(batch => batch.target.waves.flat().map(host => ({ batch, host })));
  const digestFor = (host: string, places: number[]) =>
    inputs.planDigests[order.findIndex(one => one.host === host && one.batch.places.includes(places[0] ?? -1))];
  const taskOf = (places: number[], ended: readonly (Ended | undefined)[]): Task => {
    const intents = places.flatMap(place => documents[place] ?? []);
    return {
      ...prepared.task,
      id: randomUUID(),
      intents,
      files: files.filter(({ stack }) => intents.some(({ intent }) => 'stack' in intent && intent.stack === stack)),
      ...(isOne ? {} : { places, given: givenOf(documents, places, ended) }),
    };
  };
  const tasks = new Map<CommandResult, Task>();
  const deliverTo = async (host: string, places: number[], task: Task): Promise<CommandResult> => {
    const agent = agents.get(host) as AgentAddress;
    let sent: CommandResult;
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
  return orchestrate({
    nodes,
    batches,
    looksOnly: inputs.mode !== 'run',
    isCancelled: () => sender.isStopped,
    send(host, places, ended) {
      const planDigest = inputs.mode === 'run' ? digestFor(host, places) : undefined;
      return deliverTo(host, places, { ...taskOf(places, ended), planDigest });
    },
    async recall(sent) {
      const [task, agent] = [tasks.get(sent) as Task, agents.get(sent.host) as AgentAddress];
      await sender.say(`${sent.host}: the run ${task.id} is called back`);
      const receipt = await sender.recall(task, agent);
      await sender.say(`${sent.host}: ${receipt?.outcome ?? 'how it ended can’t be learnt: it goes on there'}`);
      if (!receipt) return undefined;
      receipts.push(receipt);
      const recalled: CommandResult = { host: sent.host, places: sent.places, receipt };
      tasks.set(recalled, task);
      return recalled;
    },
    async undo(sent, places) {
      const { planDigest, ...task } = tasks.get(sent) as Task;
      const undo = { run: task.id, documents: places.map(place => sent.places.indexOf(place) + 1) };
      return deliverTo(sent.host, sent.places, { ...task, id: randomUUID(), files: [], undo });
    },
  });
}

/** What an agent must know of the documents that others carry: how they have ended. */
function givenOf(documents: LoadedIntent[], places: number[], ended: readonly (Ended | undefined)[]): Given[] {
  return documents.flatMap(({ name, document, intent }, place) => {
    const outcome = ended[place];
    if (outcome === undefined || places.includes(place)) return [];
    const { action, id, host, hosts, on_failure } = intent;
    return [{ place, name, document, outcome, intent: { action, id, host, hosts, on_failure } }];
  });
}
