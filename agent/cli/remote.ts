import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { askAgent, askAgentParts, listRuns } from '../../client/ask.ts';
import type { CommandTask } from '../../client/command.ts';
import { cancelRun, type DeliveryOptions, deliver, type FollowRequest } from '../../client/deliver.ts';
import { parseDuration } from '../../intents/duration.ts';
import { graphOf, hasParallel } from '../../intents/graph.ts';
import { readPublicKey, readSecretKey } from '../../protocol/keys.ts';
import type { Answer, Question } from '../../protocol/question.ts';
import type { Receipt } from '../../protocol/receipt.ts';
import type { OptionValues } from './command-spec.ts';
import { printError } from './exit.ts';
import { EventPrinter } from './print-run.ts';
import { cliRefusals } from './refusals.ts';
import type { REMOTE } from './shared-options.ts';

type RemoteOptions = OptionValues<typeof REMOTE> & { socket?: string | undefined; json: boolean };

/** The longest waits for a first connection and for the confirmation of a cancel, in milliseconds. */
const CONNECT_MS = 10_000;
const CANCEL_MS = 30_000;

type Task = Omit<CommandTask, 'id' | 'origin' | 'approval'>;

/** An agent elsewhere. The user authenticates with a signing key. */
export class RemoteAgent {
  readonly #delivery: DeliveryOptions;
  readonly #json: boolean;
  readonly origin: CommandTask['origin'];

  constructor(options: RemoteOptions & { agent: string; key: string; file: string; as: string }) {
    const { agent, key, file, as, timeout, json } = options;
    if (!/^wss?:\/\/[^/?#@\s]+\/?$/.test(agent) || !URL.canParse(agent))
      throw cliRefusals.optionInvalid(`--agent ${agent}`, 'Write ws://name:8000 or wss://name:8000.');
    if (!/^[A-Za-z0-9][\w.-]{0,63}$/.test(as))
      throw cliRefusals.optionInvalid(`--as ${as}`, 'Write --as NAME with up to 64 letters, digits, "_", "." and "-".');
    this.#json = json;
    this.#delivery = {
      agent: { url: agent.replace(/\/$/, ''), key: readPublicKey(key) },
      key: readSecretKey(readFileSync(file, 'utf8')),
      connectTimeout: CONNECT_MS,
      timeout: parseTimeout(timeout),
      log: printError,
    };
    this.origin = {
      ...{ repository: `laptop/${as}`, repository_id: '0', ref: '', sha: '0'.repeat(40), event: 'laptop' },
      ...{ workflow_ref: '', run_id: '', run_attempt: '', actor: as, url: '' },
    };
  }

  /** Starts a run, or follows one, and shows it until it ends. Throws `Refused`. */
  async show(request: Task | { follow: string }): Promise<Receipt> {
    const task: CommandTask | FollowRequest =
      'follow' in request
        ? { ...request, origin: this.origin }
        : { ...request, id: randomUUID(), origin: this.origin, approval: null };
    if ('id' in task && !this.#json) console.log(`run ${task.id}`);
    const printer = new EventPrinter(this.#json, 'intents' in request && hasParallel(graphOf(request.intents)));
    const events = deliver(task, this.#delivery);
    let next = await events.next();
    for (; !next.done; next = await events.next()) printer.event(next.value);
    printer.receipt(next.value);
    return next.value;
  }

  /** Starts a run without waiting for its end. Returns the id of the run. Throws `Refused`. */
  async start(request: Task): Promise<string> {
    const task: CommandTask = { ...request, id: randomUUID(), origin: this.origin, approval: null };
    const events = deliver(task, this.#delivery);
    await events.next();
    await events.return(undefined as never);
    return task.id;
  }

  async cancel(run: string): Promise<Receipt> {
    if (!(await cancelRun(run, { origin: this.origin }, this.#delivery, CANCEL_MS)))
      throw cliRefusals.cancelUnconfirmed();
    return this.show({ follow: run });
  }

  list(limit: number, before: string | undefined) {
    return listRuns({ limit, before, origin: this.origin }, this.#delivery);
  }

  /** Throws `Refused`. */
  ask<Q extends Question>(question: Q): Promise<Answer<Q['about']>> {
    return askAgent(question, { origin: this.origin }, this.#delivery);
  }

  /** Yields the rows that the audit log has at the start of the request. Throws `Refused`. */
  async *audit(): AsyncGenerator<Answer<'audit'>[number]> {
    for await (const rows of askAgentParts({ about: 'audit', after: 0 }, { origin: this.origin }, this.#delivery))
      yield* rows;
  }
}

function parseTimeout(text: string): number {
  try {
    return parseDuration(text);
  } catch {
    throw cliRefusals.optionInvalid(`--timeout ${text}`, 'Write a duration such as 90s or 30m.');
  }
}

/**
 * Returns the agent that options or environment variables name, or undefined if the user means the agent of this host.
 * Throws `Refused`.
 */
export function createRemoteAgent(options: RemoteOptions): RemoteAgent | undefined {
  const agent = options.agent ?? (options.socket === undefined ? process.env.CHATOPS_AGENT : undefined);
  if (agent === undefined || agent === '') return undefined;
  const need = (value: string | undefined, option: string, variable: string): string => {
    const found = value ?? process.env[variable];
    if (!found) throw cliRefusals.remoteIncomplete(option, variable);
    return found;
  };
  return new RemoteAgent({
    ...options,
    agent,
    key: need(options['agent-key'], 'agent-key', 'CHATOPS_AGENT_KEY'),
    file: need(options['signing-key-file'], 'signing-key-file', 'CHATOPS_SIGNING_KEY_FILE'),
    as: options.as ?? process.env.CHATOPS_AS ?? userInfo().username,
  });
}
