import * as core from '@actions/core';
import type { CommandTask } from '../client/command.ts';
import { type AgentAddress, cancelRun, type DeliveryOptions, deliver, rejoinRun } from '../client/deliver.ts';
import type { Receipt } from '../protocol/receipt.ts';
import { Refused } from '../protocol/refusal.ts';
import { idToken } from './id-token.ts';
import type { Inputs } from './inputs.ts';
import type { Log } from './log.ts';
import { Report } from './report.ts';

/** What the post step needs to come back to the runs of this job that have not ended. */
export interface Saved {
  origin: CommandTask['origin'];
  runs: { run: string; url: string; key: string }[];
}

/** GitHub's runner kills 7.5 s after SIGINT and 2.5 s after SIGTERM. */
const CANCEL_PATIENCE = 5_000;
/** How long a run that is called back may take to undo itself, in milliseconds. */
const RECALL_PATIENCE = 300_000;

/** The commands that this job sends: each is followed to its receipt, and all of them can be cancelled. */
export class Sender {
  readonly #log: Log;
  readonly #inputs: Inputs;
  /** Several are under way at the same time. */
  readonly #beside: boolean;
  readonly #current = new Set<{ task: CommandTask; delivery: DeliveryOptions; accepted: boolean }>();
  /** By their ids. */
  readonly #open = new Map<string, Saved['runs'][number]>();
  #isStopped = false;
  /** One line of the log after another. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(log: Log, inputs: Inputs, beside: boolean) {
    this.#log = log;
    this.#inputs = inputs;
    this.#beside = beside;
  }

  /** Delivers a task and shows its run. Throws `Refused`. */
  async run(task: CommandTask, agent: AgentAddress): Promise<Receipt> {
    let report = new Report(this.#log, new URL(agent.url).hostname, task.dryRun, this.#beside);
    // Before it is sent: should the job be killed now, the post step looks for it.
    this.#open.set(task.id, { run: task.id, url: agent.url, key: agent.key.text });
    this.#save(task);
    const delivery: DeliveryOptions = {
      ...this.#deliveryTo(agent),
      onAccepted: (accepted, name) => {
        report = new Report(this.#log, name, task.dryRun, this.#beside);
        current.accepted = true;
        void this.say(`[${agent.url}] run ${accepted}`);
      },
    };
    const current = { task, delivery, accepted: false };
    this.#current.add(current);
    const events = deliver(task, delivery);
    try {
      let next = await events.next();
      for (; !next.done; next = await events.next()) {
        const { value } = next;
        await this.#inTurn(() => report.event(value));
      }
      const receipt = next.value;
      await this.#inTurn(() => report.receipt(receipt));
      this.#isDone(task);
      return receipt;
    } catch (error) {
      // The job says itself how this ended: the post step has nothing to find out.
      if (error instanceof Refused) this.#isDone(task);
      throw error;
    } finally {
      this.#current.delete(current);
      await this.#inTurn(() => report.end());
    }
  }

  /** Asks an agent to end a run that was not waited for, and returns its receipt; undefined where that can't be had. */
  async recall(task: CommandTask, agent: AgentAddress): Promise<Receipt | undefined> {
    const delivery = this.#deliveryTo(agent);
    try {
      if (!(await cancelRun(task.id, task, delivery, CANCEL_PATIENCE))) return undefined;
    } catch (error) {
      // It has ended already; its receipt says how.
      if (!(error instanceof Refused)) throw error;
    }
    try {
      return await rejoinRun(task.id, task, delivery, RECALL_PATIENCE);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return undefined;
    }
  }

  #deliveryTo(agent: AgentAddress): DeliveryOptions {
    const { signingKey, oidc, connectTimeout, timeout } = this.#inputs;
    return {
      ...{ agent, key: signingKey, connectTimeout, timeout },
      ...(oidc ? { idToken } : {}),
      log: line => void this.say(`[${agent.url}] ${line}`),
    };
  }

  /** A line of our own. */
  say(line: string): Promise<void> {
    return this.#inTurn(() => this.#log.line(line));
  }

  /** The job is being stopped. */
  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** Whether anything is under way. */
  get isBusy(): boolean {
    return this.#current.size > 0;
  }

  /**
   * A signal means that the workflow is cancelled: each agent is asked to end its run. Returns whether an agent has taken a
   * run whose end can still be followed, for as long as GitHub lets this process live.
   */
  async stop(): Promise<boolean> {
    this.#isStopped = true;
    const accepted = await Promise.all([...this.#current].map(one => this.#cancel(one)));
    return accepted.includes(true);
  }

  async #cancel(current: { task: CommandTask; delivery: DeliveryOptions; accepted: boolean }): Promise<boolean> {
    const { task, delivery } = current;
    process.stdout.write(`\nCancelling the run ${task.id}.\n`);
    let said: string;
    let taken = false;
    try {
      taken = await cancelRun(task.id, task, delivery, CANCEL_PATIENCE);
      said = taken
        ? 'The agent stops the run, repairs and undoes it.'
        : 'The agent can’t be reached: the run goes on at the host.';
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      said = error.message;
    }
    process.stdout.write(`${said}\n`);
    if (!taken && !current.accepted) this.#isDone(task);
    return current.accepted;
  }

  #isDone(task: CommandTask): void {
    this.#open.delete(task.id);
    this.#save(task);
  }

  #save({ origin }: CommandTask): void {
    core.saveState('runs', JSON.stringify({ origin, runs: [...this.#open.values()] } satisfies Saved));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}
