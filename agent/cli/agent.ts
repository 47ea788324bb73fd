import { parseArgs } from 'node:util';
import { startAgent } from '../main.ts';

/** Runs until SIGTERM or SIGINT; SIGHUP reads the configuration again. */
export async function agent(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { config: { type: 'string', default: '/etc/chatops/agent.yaml' } } });
  const running = await startAgent(values.config);
  process.on('SIGHUP', () => running.reload());
  await new Promise<void>(stop => {
    process.once('SIGTERM', () => stop());
    process.once('SIGINT', () => stop());
  });
  console.log('stopping; runs in flight are carried out to their end');
  await running.stop();
  return 0;
}
