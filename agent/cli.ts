#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8';
import { isMainThread } from 'node:worker_threads';
import { VERSION } from '../protocol/version.ts';
import { EXIT, exitOnClosedPipe, ignoreOutputErrors, printError } from './cli/exit.ts';
import { execute, HANDLERS } from './cli/handlers.ts';
import { parseCall } from './cli/parse-call.ts';

// Long idle, then much output at once: otherwise V8's young generation grows to tens of megabytes and keeps them.
setFlagsFromString('--semi-space-growth-factor=1');

/** Runs one command line. */
async function main(argv: string[]): Promise<number> {
  const [command, ...rest] = argv;
  if (command === '--version' || command === '-v') {
    console.log(VERSION);
    return EXIT.done;
  }
  const isCall = rest[0] !== '--help';
  if (command === 'keeper' && isCall) return (await HANDLERS.keeper())([], {});
  if (command === 'proxmox' && isCall) return (await HANDLERS.proxmox())([rest], {});
  // The agent runs on without a reader of its log; every other command ends with its reader.
  if (command === 'agent') ignoreOutputErrors();
  else exitOnClosedPipe();
  const call = parseCall(argv);
  if (call) return execute(call);
  const { runProgram } = await import(/* webpackMode: "eager" */ './cli/program.ts');
  return runProgram(argv);
}

/** Runs what a thread of the agent is for. */
async function runThread(): Promise<number> {
  const { answerRenderTasks } = await import(/* webpackMode: "eager" */ './compose/render-thread.ts');
  answerRenderTasks();
  return EXIT.done;
}

try {
  process.exitCode = isMainThread ? await main(process.argv.slice(2)) : await runThread();
} catch (error) {
  if (!isMainThread) throw error;
  if (error instanceof Error && 'code' in error && error.code === 'ERR_UNKNOWN_BUILTIN_MODULE') {
    printError(`chatops: This is Node ${process.version}, which is too old. Install Node 24 or newer and use it.`);
    process.exit(EXIT.failed);
  }
  const { toRefusal } = await import(/* webpackMode: "eager" */ './cli/refusals.ts');
  const refusal = toRefusal(error);
  const { code, message, remedy } = refusal;
  const text = `chatops: ${code === 'fault' ? '' : `${code}: `}${message} ${remedy}`.trim();
  printError(process.argv.includes('--json') ? JSON.stringify({ error: refusal }) : text);
  process.exitCode = code === 'wrong-call' ? EXIT.usage : EXIT.failed;
}
