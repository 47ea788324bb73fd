import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { askAgent, askAgentParts, listRuns } from '../../client/ask.ts';
import type { CommandTask } from '../../client/command.ts';
import { cancelRun, type DeliveryOptions, deliver, type FollowRequest } from '../../client/deliver.ts';
import { parseDuration } from '../../intents/duration.ts';
import { readPublicKey, readSecretKey } from '../../protocol/keys.ts';
import type { Answer, Question } from '../../protocol/question.ts';
import type { Receipt } from '../../protocol/receipt.ts';
import { EventPrinter } from './print-run.ts';
import { cliRefusals } from './refusals.ts';

/** Options of the commands that also speak with an agent elsewhere, over the tailnet. */
export const REMOTE_OPTIONS = {
  agent: { type: 'string' },
  'agent-key': { type: 'string' },
  'signing-key-file': { type: 'string' },
  as: { type: 'string' },
  timeout: { type: 'string', default: '30m' },
} as const;

interface RemoteValues {
  agent?: string | undefined;
  'agent-key'?: string | undefined;
  'signing-key-file'?: string | undefined;
  as?: string | undefined;
  timeout: string;
  socket?: string | undefined;
  json: boolean;
}

/** For a first connection, and for a cancel to be taken, in milliseconds. */
const CONNECT_MS = 10_000;
const CANCEL_MS = 30_000;

/** An agent elsewhere, spoken with as the owner of a signing key. */
export class RemoteAgent {
  readonly #delivery: DeliveryOptions;
  readonly #json: boolean;
  readonly origin: CommandTask['origin'];

  constructor(values: RemoteValues & { agent: string; key: string; file: string; as: string }) {
    const { agent, key, file, as } = values;
    if (!/^wss?:\/\/[^/?#@\s]+\/?$/.test(agent) || !URL.canParse(agent))
      throw cliRefusals.optionInvalid(`--agent ${agent}`, 'Write ws://name:8000 or wss://name:8000.');
    if (!/^[A-Za-z0-9][\w.-]{0,63}$/.test(as))
      throw cliRefusals.optionInvalid(`--as ${as}`, 'Say who you are: --as NAME.');
    this.#json = values.json;
    this.#delivery = {
      agent: { url: agent.replace(/\/$/, ''), key: readPublicKey(key) },
      key: readSecretKey(readFileSync(file, 'utf8')),
      connectTimeout: CONNECT_MS,
      timeout: parseDuration(values.timeout),
      log: line => process.stderr.write(`${line}\n`),
    };
    this.origin = {
      ...{ repository: `laptop/${as}`, repository_id: '0', ref: '', sha: '0'.repeat(40), event: 'laptop' },
      ...{ workflow_ref: '', run_id: '', run_attempt: '', actor: as, url: '' },
    };
  }

  /** Sends what is to be done, or follows a run, and shows it to its end. Throws `Refused`. */
  async show(what: Omit<CommandTask, 'id' | 'origin' | 'approval'> | { follow: string }): Promise<Receipt> {
    const task: CommandTask | FollowRequest =
      'follow' in what
        ? { ...what, origin: this.origin }
        : { ...what, id: randomUUID(), origin: this.origin, approval: null };
    if ('id' in task && !this.#json) console.log(`run ${task.id}`);
    const printer = new EventPrinter(this.#json);
    const events = deliver(task, this.#delivery);
    let next = await events.next();
    for (; !next.done; next = await events.next()) printer.event(next.value);
    printer.receipt(next.value);
    return next.value;
  }

  /** Sends what is to be done and does not wait for its end. Returns the run's id. Throws `Refused`. */
  async begin(what: Omit<CommandTask, 'id' | 'origin' | 'approval'>): Promise<string> {
    const task: CommandTask = { ...what, id: randomUUID(), origin: this.origin, approval: null };
    const events = deliver(task, this.#delivery);
    await events.next();
    await events.return(undefined as never);
    return task.id;
  }

  async cancel(run: string): Promise<Receipt> {
    if (!(await cancelRun(run, { origin: this.origin }, this.#delivery, CANCEL_MS))) throw cliRefusals.goesOn();
    return this.show({ follow: run });
  }

  list(limit: number, before: string | undefined) {
    return listRuns({ limit, before, origin: this.origin }, this.#delivery);
  }

  /** Throws `Refused`. */
  ask<Q extends Question>(question: Q): Promise<Answer<Q['about']>> {
    return askAgent(question, { origin: this.origin }, this.#delivery);
  }

  /** All rows of the audit that there are when it begins. Throws `Refused`. */
  async *audit(): AsyncGenerator<Answer<'audit'>[number]> {
    for await (const rows of askAgentParts({ about: 'audit', after: 0 }, { origin: this.origin }, this.#delivery))
      yield* rows;
  }
}

/**
 * The agent that options or environment name (CHATOPS_AGENT, CHATOPS_AGENT_KEY, CHATOPS_SIGNING_KEY_FILE, CHATOPS_AS);
 * undefined where the one of this host is meant. Throws `Refused`.
 */
export function createRemoteAgent(values: RemoteValues): RemoteAgent | undefined {
  const agent = values.agent ?? (values.socket === undefined ? process.env.CHATOPS_AGENT : undefined);
  if (agent === undefined || agent === '') return undefined;
  const need = (value: string | undefined, option: string, variable: string): string => {
    const found = value ?? process.env[variable];
    if (!found)
      throw cliRefusals.optionInvalid('--agent alone', `Name --${option} too, or ${variable} in the environment.`);
    return found;
  };
  return new RemoteAgent({
    ...values,
    agent,
    key: need(values['agent-key'], 'agent-key', 'CHATOPS_AGENT_KEY'),
    file: need(values['signing-key-file'], 'signing-key-file', 'CHATOPS_SIGNING_KEY_FILE'),
    as: values.as ?? process.env.CHATOPS_AS ?? userInfo().username,
  });
}
