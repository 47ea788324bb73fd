import type { Arguments, CommandName, Options } from './commands.ts';
import type { Call } from './parse-call.ts';

type Handler<Name extends CommandName> = (args: Arguments<Name>, options: Options<Name>) => number | Promise<number>;

/** Loads the function of a command. Each is loaded only when it is called: an idle agent and a supervisor stay small. */
export const HANDLERS: { [Name in CommandName]: () => Promise<Handler<Name>> } = {
  init: async () => (await import(/* webpackMode: "eager" */ './init.ts')).initCommand,
  agent: async () => (await import(/* webpackMode: "eager" */ './agent.ts')).agentCommand,
  'config check': async () => (await import(/* webpackMode: "eager" */ './config.ts')).configCheckCommand,
  doctor: async () => (await import(/* webpackMode: "eager" */ './doctor.ts')).doctorCommand,
  validate: async () => (await import(/* webpackMode: "eager" */ './validate.ts')).validateCommand,
  run: async () => (await import(/* webpackMode: "eager" */ './run.ts')).runCommand,
  plan: async () => {
    const { runCommand } = await import(/* webpackMode: "eager" */ './run.ts');
    return (args, options) => runCommand(args, { ...options, plan: true });
  },
  rollback: async () => (await import(/* webpackMode: "eager" */ './run.ts')).rollbackCommand,
  runs: async () => (await import(/* webpackMode: "eager" */ './runs.ts')).runsCommand,
  logs: async () => (await import(/* webpackMode: "eager" */ './runs.ts')).logsCommand,
  cancel: async () => (await import(/* webpackMode: "eager" */ './runs.ts')).cancelCommand,
  'hook rotate': async () => (await import(/* webpackMode: "eager" */ './hook.ts')).hookRotateCommand,
  'notify test': async () => (await import(/* webpackMode: "eager" */ './notify.ts')).notifyTestCommand,
  schedule: async () => (await import(/* webpackMode: "eager" */ './schedule.ts')).scheduleCommand,
  'audit export': async () => (await import(/* webpackMode: "eager" */ './audit.ts')).auditExportCommand,
  'audit verify': async () => (await import(/* webpackMode: "eager" */ './audit.ts')).auditVerifyCommand,
  'policy test': async () => (await import(/* webpackMode: "eager" */ './policy.ts')).policyTestCommand,
  'policy explain': async () => (await import(/* webpackMode: "eager" */ './policy.ts')).policyExplainCommand,
  'key fingerprint': async () => (await import(/* webpackMode: "eager" */ './key.ts')).keyFingerprintCommand,
  'key add': async () => (await import(/* webpackMode: "eager" */ './key.ts')).keyAddCommand,
  'key remove': async () => (await import(/* webpackMode: "eager" */ './key.ts')).keyRemoveCommand,
  'key rotate': async () => (await import(/* webpackMode: "eager" */ './key.ts')).keyRotateCommand,
  selftest: async () => (await import(/* webpackMode: "eager" */ './selftest.ts')).selftestCommand,
  keygen: async () => (await import(/* webpackMode: "eager" */ './keygen.ts')).keygenCommand,
  completion: async () => (await import(/* webpackMode: "eager" */ './completion.ts')).completionCommand,
  man: async () => (await import(/* webpackMode: "eager" */ './man.ts')).manCommand,
  keeper: async () => (await import(/* webpackMode: "eager" */ '../system/supervisor-process.ts')).superviseRun,
  proxmox: async () => {
    const { proxmoxCommand } = await import(/* webpackMode: "eager" */ '../outbound/proxmox-command.ts');
    return ([args]) => proxmoxCommand(args);
  },
};

type AnyHandler = (args: unknown[], options: Record<string, unknown>) => number | Promise<number>;

/** Runs a command. Returns its exit code. */
export async function execute({ name, args, options }: Call): Promise<number> {
  // The table of commands gives the values their types, which both parsers follow.
  const handler = (await HANDLERS[name]()) as unknown as AnyHandler;
  return handler(args, options);
}
