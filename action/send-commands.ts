import { randomUUID } from 'node:crypto';
import type { CommandTask } from '../client/command.ts';
import type { AgentAddress } from '../client/deliver.ts';
import type { DocumentOutcome } from '../intents/graph.ts';
import { stackOf } from '../intents/intent.ts';
import type { LoadedIntent } from '../intents/load.ts';
import type { Coverage, FinishedDocument } from '../protocol/command.ts';
import type { Receipt } from '../protocol/receipt.ts';
import { Refused } from '../protocol/refusal.ts';
import type { CommandDispatcher } from './dispatcher.ts';
import type { Inputs } from './inputs.ts';
import {
  type CommandRequest,
  type CommandResult,
  type OrchestrateResult,
  orchestrate,
  type RecallRequest,
  type SendRequest,
  type UndoRequest,
} from './orchestrate.ts';
import type { Prepared } from './prepare.ts';

/**
 * Sends the commands that `orchestrate` asks for, as many at a time as it allows, and reports each result to it. A refusal
 * is thrown if there is a single command; with several it is the result of its host.
 */
export async function sendCommands(
  prepared: Prepared,
  inputs: Inputs,
  sender: CommandDispatcher,
  receipts: Receipt[],
): Promise<OrchestrateResult> {
  const { nodes, batches } = prepared;
  const commands = new Commands(prepared, inputs, sender, receipts);
  const running = new Map<CommandRequest, Promise<{ request: CommandRequest; result: CommandResult | undefined }>>();
  const orchestration = orchestrate({ nodes, batches, looksOnly: inputs.mode !== 'run' });
  let step = orchestration.next();
  while (!step.done) {
    for (const request of step.value) {
      const work = commands.carryOut(request).then(result => ({ request, result }));
      // The first error ends the loop below; later ones of commands that still run have no reader.
      work.catch(() => undefined);
      running.set(request, work);
    }
    const { request, result } = await Promise.race(running.values());
    running.delete(request);
    step = orchestration.next({ request, result, isCancelled: sender.isStopped });
  }
  return step.value;
}

/** Turns the requests of one orchestration into commands, and remembers which command each result belongs to. */
class Commands {
  readonly #prepared: Prepared;
  readonly #inputs: Inputs;
  readonly #sender: CommandDispatcher;
  readonly #receipts: Receipt[];
  readonly #tasks = new Map<CommandResult, CommandTask>();
  /** True if only a single command is sent. */
  readonly #isOne: boolean;

  constructor(prepared: Prepared, inputs: Inputs, sender: CommandDispatcher, receipts: Receipt[]) {
    this.#prepared = prepared;
    this.#inputs = inputs;
    this.#sender = sender;
    this.#receipts = receipts;
    this.#isOne = prepared.batches.length === 1 && prepared.batches[0]?.target.waves.flat().length === 1;
  }

  carryOut(request: CommandRequest): Promise<CommandResult | undefined> {
    switch (request.do) {
      case 'send':
        return this.#send(request);
      case 'recall':
        return this.#recall(request);
      case 'undo':
        return this.#undo(request);
    }
  }

  #send(request: SendRequest): Promise<CommandResult> {
    const { host, places, ended } = request;
    const { documents, files, task, covers } = this.#prepared;
    const intents = places.flatMap(place => documents[place] ?? []);
    return this.#deliver(host, places, {
      ...task,
      id: randomUUID(),
      intents,
      covers: covers.get(host)?.filter(isOneOf(intents)),
      files: files.filter(({ stack }) => intents.some(({ intent }) => 'stack' in intent && intent.stack === stack)),
      ...(this.#isOne ? {} : { indexes: places, given: givenOf(documents, places, ended) }),
      planDigest: this.#inputs.mode === 'run' ? this.#planDigest(request) : undefined,
    });
  }

  async #recall({ sent }: RecallRequest): Promise<CommandResult | undefined> {
    const [task, agent] = [this.#taskOf(sent), this.#agentOf(sent.host)];
    await this.#sender.say(`${sent.host}: cancelling the run ${task.id}, which the job did not wait for`);
    const receipt = await this.#sender.recall(task, agent);
    await this.#sender.say(`${sent.host}: ${receipt?.outcome ?? 'outcome unknown; the run continues on the host'}`);
    if (!receipt) return undefined;
    this.#receipts.push(receipt);
    const recalled: CommandResult = { host: sent.host, places: sent.places, receipt };
    this.#tasks.set(recalled, task);
    return recalled;
  }

  #undo({ sent, places }: UndoRequest): Promise<CommandResult> {
    const { planDigest, ...task } = this.#taskOf(sent);
    const undo = { run: task.id, documents: places.map(place => sent.places.indexOf(place) + 1) };
    return this.#deliver(sent.host, sent.places, { ...task, id: randomUUID(), files: [], undo });
  }

  async #deliver(host: string, places: number[], task: CommandTask): Promise<CommandResult> {
    let result: CommandResult;
    let sent = task;
    try {
      const receipt = await this.#run(task, host, renewed => {
        sent = renewed;
      });
      this.#receipts.push(receipt);
      result = { host, places, receipt };
    } catch (error) {
      if (!(error instanceof Refused) || this.#isOne) throw error;
      const { code, message, remedy } = error.refusal;
      await this.#sender.say(`✗ ${host}: ${code}: ${message}`);
      result = { host, places, refusal: { code, message: `${host}: ${message}`, remedy } };
    }
    this.#tasks.set(result, sent);
    return result;
  }

  /** Runs a command. If the host has deployed its documents since the evidence was gathered, gathers and sends it once more. */
  async #run(task: CommandTask, host: string, onRenewed: (task: CommandTask) => void): Promise<Receipt> {
    const agent = this.#agentOf(host);
    try {
      return await this.#sender.run(task, agent);
    } catch (error) {
      if (!(error instanceof Refused) || error.code !== 'deployed-meanwhile') throw error;
      await this.#sender.say(`${host === '' ? '' : `${host}: `}${error.message} Gathering the evidence once more.`);
      const { approval, covers } = await this.#prepared.gather();
      const renewed = { ...task, id: randomUUID(), approval, covers: covers.get(host)?.filter(isOneOf(task.intents)) };
      onRenewed(renewed);
      return this.#sender.run(renewed, agent);
    }
  }

  /** Returns the line of the input "plan-digest" for this command: the lines follow the batches and their hosts. */
  #planDigest({ batch, host }: SendRequest): string | undefined {
    const { batches } = this.#prepared;
    const order = batches.flatMap(one => one.target.waves.flat().map(name => ({ batch: one, host: name })));
    return this.#inputs.planDigests[order.findIndex(one => one.batch === batch && one.host === host)];
  }

  #taskOf(result: CommandResult): CommandTask {
    return this.#tasks.get(result) as CommandTask;
  }

  #agentOf(host: string): AgentAddress {
    return this.#prepared.agents.get(host) as AgentAddress;
  }
}

/** Returns a test for the coverage of documents. */
function isOneOf(documents: LoadedIntent[]): (coverage: Coverage) => boolean {
  return ({ name, stack }) => documents.some(one => one.name === name && stackOf(one.intent) === stack);
}

/** Returns the outcomes of documents that other commands carry, which an agent needs for its own decisions. */
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
