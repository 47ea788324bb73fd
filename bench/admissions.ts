import { Client, command } from '../test/stand/signer.ts';
import { LABEL, type World } from '../test/stand/world.ts';

const COMMANDS = 400;
const AT_ONCE = 8;

/** How many dry-run commands a second the agent admits, each on a connection of its own, to the receipt. */
export async function admissions(world: World): Promise<void> {
  await world.host.stop();
  await world.host.start({ rate_limit: { commands: 100_000, per: '1m' } });
  let left = COMMANDS;
  const one = async () => {
    while (left-- > 0) {
      const client = new Client(world.host.url);
      await client.send(
        command([{ action: 'rollout', stack: 'stack-web', label_required: LABEL }], { dry_run: true }),
        world.host.keys.secret,
      );
      if ((await client.receipt()).outcome !== 'planned') throw new Error('A command was not admitted');
      await client.end();
    }
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  const seconds = (performance.now() - began) / 1000;
  console.log(
    `commands admitted, planned dry and receipted: ${(COMMANDS / seconds).toFixed(0)} a second (${COMMANDS} commands, ${AT_ONCE} at once)`,
  );
}
