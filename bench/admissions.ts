import { Client, command } from '../test/stand/signer.ts';
import { LABEL, type World } from '../test/stand/world.ts';

const COMMANDS = 400;
const CONCURRENCY = 8;

/** Measures the dry-run commands that the agent admits per second, from a separate connection to the receipt. */
export async function admissions(world: World): Promise<void> {
  await world.host.stop();
  await world.host.start({ rate_limit: { commands: 100_000, per: '1m' } });
  let left = COMMANDS;
  const sendUntilDone = async () => {
    while (left-- > 0) {
      const client = new Client(world.host.url);
      await client.send(
        command([{ action: 'rollout', stack: 'stack-web', label_required: LABEL }], { dry_run: true }),
        world.host.keys.secret,
      );
      if ((await client.receipt()).outcome !== 'planned') throw new Error('The command was not admitted');
      await client.end();
    }
  };
  const started = performance.now();
  await Promise.all(Array.from({ length: CONCURRENCY }, sendUntilDone));
  const seconds = (performance.now() - started) / 1000;
  console.log(
    `commands admitted, planned as a dry run and answered with a receipt: ${(COMMANDS / seconds).toFixed(0)} per second (${COMMANDS} commands, ${CONCURRENCY} at the same time)`,
  );
}
