import { join } from 'node:path';
import { freePort } from '../test/stand/host.ts';
import { LABEL, type World, webStack } from '../test/stand/world.ts';
import { measurePairs, report } from './pairs.ts';
import type { Sshd } from './sshd.ts';

const ROUNDS = 15;

/** Measures the whole action process with a rollout that changes nothing, against `docker compose up -d` over ssh. */
export async function rollout(world: World, sshd: Sshd): Promise<void> {
  const port = await freePort();
  world.stack('stack-web', { 'compose.yaml': webStack('chatops-test/web:1', port) });
  const merge = world.merge({
    'chatops/intents/web.yaml': `label_required: ${LABEL}\naction: rollout\nstack: stack-web\n`,
  });
  const deploy = async () => {
    const { outputs, ms } = await world.deploy(merge, 'web');
    if (outputs.status !== 'succeeded')
      throw new Error(`The rollout finished as ${outputs.status}: ${outputs.message}`);
    return ms;
  };
  await deploy();
  const line = `cd ${join(world.host.stacks, 'stack-web')} && DOCKER_HOST=${process.env.DOCKER_HOST ?? ''} docker compose up -d`;
  const pairs = await measurePairs(ROUNDS, deploy, () => sshd.run(line));
  console.log(report('no-op rollout, whole action process / ssh docker compose up -d', pairs, 'ms', '≤ 0.6'));
}
