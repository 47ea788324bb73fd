#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8';
import { Refused } from '../protocol/refusal.ts';
import { VERSION } from '../protocol/version.ts';
import { cliRefusals, toRefusal } from './cli/refusals.ts';

// Long idle, then much output at once: without this V8's young generation grows to tens of megabytes and stays so.
setFlagsFromString('--semi-space-growth-factor=1');

/** Exit codes of `chatops`: done; what was asked about is not valid, or failed; the call itself was wrong. */
export const EXIT = { done: 0, failed: 1, usage: 2 } as const;

const HELP = `chatops ${VERSION} — deployments on machines you own

  chatops init --repository OWNER/NAME    write a first agent.yaml and a signing key; --profile dual, keyless or offline
  chatops agent --config FILE             run the agent that agent.yaml describes
  chatops config check FILE               check an agent.yaml
  chatops doctor                          look at all that the agent needs, and say what to do
  chatops validate FILE…                  check intents; prints a line for each
  chatops run FILE [--param name=value …] have the agent of this host carry out an intent, and show it live
        --plan                            say what would change
        --dry-run                         show every step, without an agent and without starting anything
        --detach                          print the run's id and go
  chatops plan FILE [--param name=value …] the same as run --plan
  chatops rollback STACK [--to RUN]       bring a stack back to the release before, or to the one of a run
  chatops runs [RUN] [--limit N]          list runs, or show one
  chatops logs [RUN] [-f]                 show what a run told; with -f until its end
  chatops cancel RUN                      stop a run, repair and undo it
  chatops hook rotate NAME [--finish]     change the secret of a webhook, in two steps
  chatops notify test [CHANNEL]           tell each channel of agent.yaml something, for a trial
  chatops schedule                        when the agent's own runs come next
  chatops audit export                    print the audit as JSON lines
  chatops audit verify [--receipt FILE …] follow its chain, and say where it is broken
  chatops policy test CASES.yaml          hold agent.yaml against expectations
  chatops policy explain INTENT.yaml --entry NAME [--label NAME …]
                                          which rule admits an intent, or why none does
  chatops key fingerprint KEY | FILE      what the log and the audit call a key
  chatops key add KEY --entry NAME        trust another signing key, at once
  chatops key remove ID --entry NAME      trust one no longer, at once
  chatops key rotate [--finish]           change the agent's own key, in two steps
  chatops selftest --attack [--out FILE]  attack the agent of this host, and say how it stood
  chatops keygen [--out FILE]             make a signing key; with --out the secret goes to FILE (0600)
  chatops completion bash | zsh | fish    for the shell to take in
  chatops man                             this program's manual page, for "man -l -"
  chatops --help | --version

The commands that speak with the agent find it by --config FILE (default /etc/chatops/agent.yaml) or
--socket PATH. run, plan, rollback, runs, logs, cancel, and, where its agent.yaml says may_ask, schedule, doctor,
notify, policy and audit also speak with one elsewhere on the tailnet: --agent ws://NAME:8000 --agent-key KEY
--signing-key-file FILE [--as NAME]. All print JSON with --json.

Exit codes: 0 done, 1 not valid or failed, 2 wrong call.
`;

/** What is not worth loading for an idle agent is loaded when its command is called. */
async function main(args: string[]): Promise<number> {
  const [command, ...rest] = args;
  switch (command) {
    case 'agent':
      return (await import(/* webpackMode: "eager" */ './cli/agent.ts')).agentCommand(rest);
    case 'config':
      return (await import(/* webpackMode: "eager" */ './cli/config.ts')).configCommand(rest);
    case 'validate':
      return (await import(/* webpackMode: "eager" */ './cli/validate.ts')).validateCommand(rest);
    case 'run':
      return (await import(/* webpackMode: "eager" */ './cli/run.ts')).runCommand(rest);
    case 'plan':
      return (await import(/* webpackMode: "eager" */ './cli/run.ts')).runCommand([...rest, '--plan']);
    case 'doctor':
      return (await import(/* webpackMode: "eager" */ './cli/doctor.ts')).doctorCommand(rest);
    case 'completion':
      return (await import(/* webpackMode: "eager" */ './cli/completion.ts')).completionCommand(rest);
    case 'rollback':
      return (await import(/* webpackMode: "eager" */ './cli/run.ts')).rollbackCommand(rest);
    case 'runs':
      return (await import(/* webpackMode: "eager" */ './cli/runs.ts')).runsCommand(rest);
    case 'logs':
      return (await import(/* webpackMode: "eager" */ './cli/runs.ts')).logsCommand(rest);
    case 'cancel':
      return (await import(/* webpackMode: "eager" */ './cli/runs.ts')).cancelCommand(rest);
    case 'audit':
      return (await import(/* webpackMode: "eager" */ './cli/audit.ts')).auditCommand(rest);
    case 'init':
      return (await import(/* webpackMode: "eager" */ './cli/init.ts')).initCommand(rest);
    case 'key':
      return (await import(/* webpackMode: "eager" */ './cli/key.ts')).keyCommand(rest);
    case 'policy':
      return (await import(/* webpackMode: "eager" */ './cli/policy.ts')).policyCommand(rest);
    case 'proxmox':
      return (await import(/* webpackMode: "eager" */ './outbound/proxmox-command.ts')).proxmoxCommand(rest);
    case 'schedule':
      return (await import(/* webpackMode: "eager" */ './cli/schedule.ts')).scheduleCommand(rest);
    case 'notify':
      return (await import(/* webpackMode: "eager" */ './cli/notify.ts')).notifyCommand(rest);
    case 'hook':
      return (await import(/* webpackMode: "eager" */ './cli/hook.ts')).hookCommand(rest);
    case 'selftest':
      return (await import(/* webpackMode: "eager" */ './cli/selftest.ts')).selftestCommand(rest);
    case 'keeper':
      return (await import(/* webpackMode: "eager" */ './system/supervisor-process.ts')).superviseRun();
    case 'man':
      return (await import(/* webpackMode: "eager" */ './cli/man.ts')).manCommand(rest);
    case 'keygen':
      return (await import(/* webpackMode: "eager" */ './cli/keygen.ts')).keygenCommand(rest);
    case '--version':
    case '-v':
      console.log(VERSION);
      return EXIT.done;
    case '--help':
    case '-h':
    case 'help':
      process.stdout.write(HELP);
      return EXIT.done;
    default:
      throw cliRefusals.wrongCall(
        `${command === undefined ? 'Which command?' : `"${command}" is not a command.`}\n\n${HELP}`,
      );
  }
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof Error && 'code' in error && error.code === 'ERR_UNKNOWN_BUILTIN_MODULE') {
    process.stderr.write(
      `chatops: Node 24 or newer is needed; this is ${process.version}. Install it, and run this with it.\n`,
    );
    process.exit(EXIT.failed);
  }
  const refusal = toRefusal(error);
  const asJson = process.argv.includes('--json');
  const { code, message, remedy } = refusal;
  const says = `chatops: ${code === 'fault' ? '' : `${code}: `}${message} ${remedy}`.trim();
  const told = code === 'wrong-call' && error instanceof Refused ? message : says;
  process.stderr.write(`${asJson ? JSON.stringify({ error: refusal }) : told}\n`);
  process.exitCode = code === 'wrong-call' ? EXIT.usage : EXIT.failed;
}
