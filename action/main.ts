import * as core from '@actions/core';
import { graphLines, hasParallel } from '../intents/graph.ts';
import { InvalidIntents } from '../intents/problem.ts';
import type { Receipt } from '../protocol/receipt.ts';
import { messageOf, type Refusal, Refused } from '../protocol/refusal.ts';
import { isSequential } from './batches.ts';
import { CommandDispatcher } from './dispatcher.ts';
import { readInputs } from './inputs.ts';
import { Log } from './log.ts';
import { post } from './post.ts';
import { prepare } from './prepare.ts';
import { actionRefusals } from './refusals.ts';
import { conclude } from './result.ts';
import { sendCommands } from './send-commands.ts';
import { annotate, validate } from './validate.ts';
import { waitingLines } from './waiting.ts';

const log = new Log();

/** Runs the main step: inputs → trigger → intents → approval → commands → delivery → report. */
async function main(): Promise<void> {
  const receipts: Receipt[] = [];
  try {
    const inputs = readInputs(process.env);
    const workspace = process.env.GITHUB_WORKSPACE ?? process.cwd();
    if (inputs.mode === 'validate') return await validate(inputs, workspace, log);
    core.setSecret(process.env['INPUT_SIGNING-KEY'] ?? '');
    const prepared = await prepare(inputs, workspace, line => void log.line(line));
    for (const line of graphLines(prepared.documents)) await log.line(line);
    for (const line of waitingLines(prepared.waiting ?? [])) await log.line(line);
    sender = new CommandDispatcher(
      log,
      inputs,
      !isSequential(prepared.nodes, prepared.batches) || hasParallel(prepared.nodes),
    );
    const results = await sendCommands(prepared, inputs, sender, receipts);
    const refused = results.sent.find(({ refusal }) => refusal !== undefined);
    await conclude(log, receipts, {
      refusal: refused?.refusal,
      graph: { documents: prepared.documents, ...results },
      waiting: prepared.waiting,
    });
  } catch (error) {
    await log.end();
    if (error instanceof InvalidIntents) {
      await annotate(error.problems, log);
      const [first] = error.problems;
      const { refusal } = actionRefusals.intentInvalid(error.problems.length, first?.message ?? '');
      await conclude(log, receipts, { refusal });
    } else await conclude(log, receipts, { refusal: await refusalOf(error) });
  }
}

/** Returns the refusal of an error. An error of the action itself becomes one line; its stack is in the debug log. */
async function refusalOf(error: unknown): Promise<Refusal> {
  if (error instanceof Refused) return error.refusal;
  await log.command('debug', error instanceof Error ? (error.stack ?? error.message) : String(error));
  return actionRefusals.crashed(firstLineOf(messageOf(error))).refusal;
}

function firstLineOf(text: string): string {
  return (text.split('\n')[0] ?? '').slice(0, 300);
}

/** The sender of the commands, once there is one: a signal cancels its runs. */
let sender: CommandDispatcher | undefined;

async function stop(signal: string): Promise<void> {
  if (!sender?.isBusy) {
    process.stdout.write(`\nThe job was stopped (${signal}). No command is running.\n`);
    process.exit(1);
  }
  process.stdout.write(`\nThe job was stopped (${signal}).\n`);
  if (!(await sender.stop())) process.exit(1);
}

let signals = 0;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (++signals === 1) stop(signal).catch(() => process.exit(1));
  });
}

// Node would print the line of the bundle in which an error was thrown, which is the whole bundle.
process.on('uncaughtException', async error => {
  await conclude(log, [], { refusal: await refusalOf(error) });
  process.exit(1);
});

if (core.getState('isPost') === 'true') await post(log);
else {
  core.saveState('isPost', 'true');
  await main();
}
// Idle connections to GitHub's API would keep the process running for seconds.
process.exit();
