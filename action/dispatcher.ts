import * as core from '@actions/core';
import type { CommandTask } from '../client/command.ts';
import { type AgentAddress, cancelRun, type DeliveryOptions, deliver, rejoinRun } from '../client/deliver.ts';
import type { Receipt } from '../protocol/receipt.ts';
import { Refused } from '../protocol/refusal.ts';
import { idToken } from './id-token.ts';
import type { Inputs } from './inputs.ts';
import type { Log } from './log.ts';
import { Report } from './report.ts';

/** The state that the post step needs to find the runs of this job that have not ended. */
export interface SavedRuns {
  origin: CommandTask['origin'];
  runs: { run: string; url: string; key: string }[];
}

/** The time limit for a cancelRun, in milliseconds. GitHub's runner kills the job 7.5 s after SIGINT and 2.5 s after SIGTERM. */
const CANCEL_TIMEOUT = 5_000;
/** The time limit for a recalled run to undo itself, in milliseconds. */
const RECALL_TIMEOUT = 300_000;

/** Sends the commands of this job, follows each to its receipt, and can cancelRun all of them. */
export class CommandDispatcher {
  readonly #log: Log;
  readonly #inputs: Inputs;
  /** True if several commands run at the same time. */
  readonly #isParallel: boolean;
  readonly #current = new Set<{ task: CommandTask; delivery: DeliveryOptions; accepted: boolean }>();
  /** The runs without a receipt, by id. */
  readonly #open = new Map<string, SavedRuns['runs'][number]>();
  #isStopped = false;
  /** The last write to the log: the next one waits for it. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(log: Log, inputs: Inputs, isParallel: boolean) {
    this.#log = log;
    this.#inputs = inputs;
    this.#isParallel = isParallel;
  }

  /** Delivers a task, logs its run, and returns the receipt. Throws `Refused`. */
  async run(task: CommandTask, agent: AgentAddress): Promise<Receipt> {
    let report = new Report(this.#log, new URL(agent.url).hostname, task.dryRun, this.#isParallel);
    // Saved before the command is sent: if the job is killed now, the post step looks for the run.
    this.#open.set(task.id, { run: task.id, url: agent.url, key: agent.key.text });
    this.#save(task);
    const delivery: DeliveryOptions = {
      ...this.#deliveryTo(agent),
      onAccepted: (accepted, name) => {
        report = new Report(this.#log, name, task.dryRun, this.#isParallel);
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
      this.#forget(task);
      return receipt;
    } catch (error) {
      // The job logs the refusal itself, so the post step has nothing to find out.
      if (error instanceof Refused) this.#forget(task);
      throw error;
    } finally {
      this.#current.delete(current);
      await this.#inTurn(() => report.end());
    }
  }

  /** Asks an agent to end a run that the job did not wait for. Returns its receipt, or undefined if that is not available. */
  async recall(task: CommandTask, agent: AgentAddress): Promise<Receipt | undefined> {
    const delivery = this.#deliveryTo(agent);
    try {
      if (!(await cancelRun(task.id, task, delivery, CANCEL_TIMEOUT))) return undefined;
    } catch (error) {
      // The run has ended already. Its receipt has the outcome.
      if (!(error instanceof Refused)) throw error;
    }
    try {
      return await rejoinRun(task.id, task, delivery, RECALL_TIMEOUT);
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
      say: line => void this.say(`[${agent.url}] ${line}`),
    };
  }

  /** Logs a line of the action. */
  say(line: string): Promise<void> {
    return this.#inTurn(() => this.#log.line(line));
  }

  /** True once the job is being stopped. */
  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** True while a command is running. */
  get isBusy(): boolean {
    return this.#current.size > 0;
  }

  /**
   * Asks each agent to end its run, because the workflow was cancelled. Returns true if an agent has accepted a run: its end
   * can be followed for as long as GitHub lets this process live.
   */
  async stop(): Promise<boolean> {
    this.#isStopped = true;
    const accepted = await Promise.all([...this.#current].map(one => this.#cancelRun(one)));
    return accepted.includes(true);
  }

  async #cancelRun(current: { task: CommandTask; delivery: DeliveryOptions; accepted: boolean }): Promise<boolean> {
    const { task, delivery } = current;
    process.stdout.write(`\nCancelling the run ${task.id}.\n`);
    let message: string;
    let isAccepted = false;
    try {
      isAccepted = await cancelRun(task.id, task, delivery, CANCEL_TIMEOUT);
      message = isAccepted
        ? 'The agent stops the run and undoes it.'
        : 'The agent can’t be reached: a run that it accepted continues on the host.';
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      message = error.message;
    }
    process.stdout.write(`${message}\n`);
    if (!isAccepted && !current.accepted) this.#forget(task);
    return current.accepted;
  }

  #forget(task: CommandTask): void {
    this.#open.delete(task.id);
    this.#save(task);
  }

  #save({ origin }: CommandTask): void {
    core.saveState('runs', JSON.stringify({ origin, runs: [...this.#open.values()] } satisfies SavedRuns));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}
