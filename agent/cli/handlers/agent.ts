import { realpathSync } from 'node:fs';
import { startAgent } from '../../main.ts';
import type { Options } from '../commands.ts';

/** Runs until SIGTERM or SIGINT; SIGHUP reads the configuration again. */
export async function agentCommand(_args: [], { config }: Options<'agent'>): Promise<number> {
  const program = realpathSync(process.argv[1] ?? '');
  const running = await startAgent(config, { supervisor: [process.execPath, program, 'keeper'], program });
  process.on('SIGHUP', () => running.reload());
  await new Promise<void>(stop => {
    process.once('SIGTERM', () => stop());
    process.once('SIGINT', () => stop());
  });
  console.log('Stopping. Running steps continue; the next agent resumes their runs.');
  await running.stop();
  // Runs in flight keep files and pipes open, so the process would not end by itself.
  process.exit(0);
}
