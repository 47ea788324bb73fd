import type { Look, Plan, Start, Step } from '../../plan.ts';
import type { Context, Intent } from '../executor.ts';
import { compareStack, summarize } from './compare.ts';
import { planShipment, WRITE_STEP } from './ship.ts';
import { awaitHealthy, checkConfig, limits, measure } from './steps.ts';
import { findTarget, type Target } from './target.ts';

type Rollout = Extract<Intent, { action: 'rollout' }>;

export async function planRollout(intent: Rollout, { site, files, compare }: Context, look: Look): Promise<Plan> {
  const target = await findTarget(
    intent,
    site,
    look,
    files.map(file => file.path),
  );
  const shipment = await planShipment(target.dir, intent.stack, files, site, look);
  const time = limits(intent.timeout);
  const who = intent.service === undefined ? [] : [intent.service];
  const up = (name: string): Start => ({
    do: 'start',
    name,
    argv: target.compose('up', '--detach', '--no-build', '--remove-orphans', ...who),
    cwd: target.dir,
    timeout: time.up,
    changes: true,
    failure: {
      code: 'up-failed',
      remedy:
        'Read the step’s output. Containers that were replaced already run the new version; "docker compose ps -a" on the host tells.',
    },
  });
  const steps: Step[] = [
    measure('before', target),
    ...(shipment.step ? [shipment.step] : []),
    checkConfig(target),
    {
      do: 'start',
      name: 'pull',
      argv: target.compose('pull', '--ignore-buildable', ...who),
      cwd: target.dir,
      timeout: time.pull,
      failure: {
        code: 'pull-failed',
        remedy: 'Check the image’s name and tag, and the host’s login at the registry. The old version still runs.',
      },
    },
    up('up'),
    awaitHealthy('wait until healthy', target, time.healthy),
    measure('after', target),
  ];
  const changes = compare ? await compareStack(intent, target, shipment, site, look) : [];
  return {
    title: `rollout${intent.service === undefined ? '' : ` ${intent.service}`} on ${intent.stack}`,
    summary: compare ? summarize(changes) : 'Not compared: a run finds out by doing it.',
    changes,
    steps,
    undo: shipment.step ? undoShipment(target, up, time.healthy) : [],
    cleanup: [],
  };
}

/**
 * Files go back as they were. Had "up" begun, what they describe is brought up again; on a first rollout there is nothing
 * to bring back, so the new files stay beside the containers they describe.
 */
function undoShipment(target: Target, up: (name: string) => Start, healthy: number): Step[] {
  const restore: Step = { do: 'restore', name: 'put files back', of: WRITE_STEP, ifBegan: WRITE_STEP };
  if (target.hadComposeFile === false) return [{ ...restore, unlessBegan: 'up' }];
  return [
    restore,
    { ...up('up again'), ifBegan: 'up' },
    { ...awaitHealthy('wait until healthy again', target, healthy), ifBegan: 'up' },
  ];
}
