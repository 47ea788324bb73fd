import { realpathSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { startAgent } from '../main.ts';

/** Runs until SIGTERM or SIGINT; SIGHUP reads the configuration again. */
export async function agentCommand(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { config: { type: 'string', default: '/etc/chatops/agent.yaml' } } });
  const program = realpathSync(process.argv[1] ?? '');
  const running = await startAgent(values.config, { supervisor: [process.execPath, program, 'keeper'] });
  process.on('SIGHUP', () => running.reload());
  await new Promise<void>(stop => {
    process.once('SIGTERM', () => stop());
    process.once('SIGINT', () => stop());
  });
  console.log('stopping; what runs in flight have started goes on, and the next agent takes them up');
  await running.stop();
  // A run that was left still holds on to its files and pipes.
  process.exit(0);
}
