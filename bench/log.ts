import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LABEL, World } from '../test/stand/world.ts';
import { peak } from './idle.ts';
import { measurePairs, median } from './pairs.ts';
import type { Sshd } from './sshd.ts';

const ROUNDS = 5;
const LINES = 5_000_000;

/**
 * Measures a step that prints 5 million lines through agent and action to the job's log, against the same program through an
 * ssh pipe. The program replaces docker: its "pull" prints the lines, all other commands run the real docker.
 */
export async function log(dir: string, sshd: Sshd): Promise<void> {
  const docker = join(dir, 'bin', 'docker');
  mkdirSync(join(dir, 'bin'));
  writeFileSync(docker, `#!/bin/sh\ncase " $* " in *" pull "*) exec seq 1 ${LINES};; esac\nexec docker "$@"\n`);
  chmodSync(docker, 0o755);

  await using world = new World({
    config: {
      docker: {
        command: docker,
        socket: (process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock').replace('unix://', ''),
      },
    },
  });
  await world.start();
  world.stack('stack-log', {
    'compose.yaml':
      'services:\n  web:\n    image: chatops-test/web:1\n    pull_policy: never\n    init: true\n    stop_grace_period: 0s\n',
  });
  const merge = world.merge({
    'chatops/intents/log.yaml': `label_required: ${LABEL}\naction: rollout\nstack: stack-log\n`,
  });
  const peaks: number[] = [];
  const deploy = async () => {
    let started = 0;
    let finished = 0;
    const job = world.begin(merge, 'log', {
      onBytes: chunk => {
        if (started === 0 && chunk.includes('::group::pull')) started = performance.now();
        if (started !== 0 && finished === 0 && chunk.includes('::group::up')) finished = performance.now();
      },
    });
    // The kernel keeps the highest value, so the last sample before the exit counts.
    let highest = 0;
    const sampling = setInterval(() => {
      if (job.child.exitCode === null) highest = Math.max(highest, peak(job.child.pid) || 0);
    }, 20);
    const { outputs } = await job.finished;
    clearInterval(sampling);
    if (outputs.status !== 'succeeded') throw new Error(`The rollout finished as ${outputs.status}: ${outputs.result}`);
    peaks.push(highest);
    return finished - started;
  };
  const pairs = await measurePairs(ROUNDS, deploy, () => sshd.run(`${docker} compose pull`));
  const rate = (milliseconds: number) => `${(LINES / milliseconds / 1000).toFixed(1)} M lines/s`;
  const [ours, theirs] = [median(pairs.map(pair => pair.ours)), median(pairs.map(pair => pair.theirs))];
  console.log(
    `log throughput, step of ${LINES / 1e6} million lines / ssh pipe: ratio ${(theirs / ours).toFixed(2)} (goal ≥ 1.0; ${rate(ours)} and ${rate(theirs)}, ${ROUNDS} pairs)`,
  );
  console.log(
    `  peak memory: action ${Math.max(...peaks).toFixed(0)} MB, agent ${peak(world.host.child?.pid).toFixed(0)} MB (goal ≤ 128 MB each)`,
  );
}
