import type { Arguments, CommandName, Options } from './commands.ts';
import type { Call } from './parse-call.ts';

type Handler<Name extends CommandName> = (args: Arguments<Name>, options: Options<Name>) => number | Promise<number>;

/** Loads the function of a command. Each is loaded only when it is called: an idle agent and a supervisor stay small. */
export const HANDLERS: { [Name in CommandName]: () => Promise<Handler<Name>> } = {
  init: async () => (await import(/* webpackMode: "eager" */ './handlers/init.ts')).initCommand,
  agent: async () => (await import(/* webpackMode: "eager" */ './handlers/agent.ts')).agentCommand,
  'config check': async () => (await import(/* webpackMode: "eager" */ './handlers/config.ts')).configCheckCommand,
  doctor: async () => (await import(/* webpackMode: "eager" */ './handlers/doctor.ts')).doctorCommand,
  validate: async () => (await import(/* webpackMode: "eager" */ './handlers/validate.ts')).validateCommand,
  run: async () => (await import(/* webpackMode: "eager" */ './handlers/run.ts')).runCommand,
  plan: async () => {
    const { runCommand } = await import(/* webpackMode: "eager" */ './handlers/run.ts');
    return (args, options) => runCommand(args, { ...options, plan: true });
  },
  rollback: async () => (await import(/* webpackMode: "eager" */ './handlers/run.ts')).rollbackCommand,
  runs: async () => (await import(/* webpackMode: "eager" */ './handlers/runs.ts')).runsCommand,
  logs: async () => (await import(/* webpackMode: "eager" */ './handlers/runs.ts')).logsCommand,
  cancel: async () => (await import(/* webpackMode: "eager" */ './handlers/runs.ts')).cancelCommand,
  'hook rotate': async () => (await import(/* webpackMode: "eager" */ './handlers/hook.ts')).hookRotateCommand,
  'notify test': async () => (await import(/* webpackMode: "eager" */ './handlers/notify.ts')).notifyTestCommand,
  schedule: async () => (await import(/* webpackMode: "eager" */ './handlers/schedule.ts')).scheduleCommand,
  'audit export': async () => (await import(/* webpackMode: "eager" */ './handlers/audit.ts')).auditExportCommand,
  'audit verify': async () => (await import(/* webpackMode: "eager" */ './handlers/audit.ts')).auditVerifyCommand,
  'policy test': async () => (await import(/* webpackMode: "eager" */ './handlers/policy.ts')).policyTestCommand,
  'policy explain': async () => (await import(/* webpackMode: "eager" */ './handlers/policy.ts')).policyExplainCommand,
  'policy suggest': async () => (await import(/* webpackMode: "eager" */ './handlers/suggest.ts')).policySuggestCommand,
  'key fingerprint': async () => (await import(/* webpackMode: "eager" */ './handlers/key.ts')).keyFingerprintCommand,
  'key add': async () => (await import(/* webpackMode: "eager" */ './handlers/key.ts')).keyAddCommand,
  'key remove': async () => (await import(/* webpackMode: "eager" */ './handlers/key.ts')).keyRemoveCommand,
  'key rotate': async () => (await import(/* webpackMode: "eager" */ './handlers/key.ts')).keyRotateCommand,
  selftest: async () => (await import(/* webpackMode: "eager" */ './handlers/selftest.ts')).selftestCommand,
  keygen: async () => (await import(/* webpackMode: "eager" */ './handlers/keygen.ts')).keygenCommand,
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
