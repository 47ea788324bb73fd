import type { Look, Plan } from '../../plan.ts';
import type { Context, Intent } from '../executor.ts';
import { compareScale, summarize } from './compare.ts';
import { awaitHealthy, checkConfig, limits, measure } from './steps.ts';
import { findTarget } from './target.ts';

type Scale = Extract<Intent, { action: 'scale' }>;

/** One service gets as many containers as asked for; `--no-deps` and `--no-recreate` leave everything else alone. */
export async function planScale(intent: Scale, { site, compare }: Context, look: Look): Promise<Plan> {
  const target = await findTarget(intent, site, look);
  const { service, replicas } = intent;
  const time = limits(intent.timeout);
  const changes = compare ? await compareScale(intent, target, look) : [];
  return {
    title: `scale ${service} on ${intent.stack} to ${replicas}`,
    summary: compare ? summarize(changes) : 'Not compared: a run finds out by doing it.',
    changes,
    steps: [
      measure('before', target),
      checkConfig(target),
      {
        do: 'start',
        name: 'scale',
        argv: target.compose(
          'up',
          '--detach',
          '--no-build',
          '--no-recreate',
          '--no-deps',
          '--scale',
          `${service}=${replicas}`,
          service,
        ),
        cwd: target.dir,
        timeout: time.up,
        changes: true,
        failure: {
          code: 'scale-failed',
          remedy:
            'Read the step’s output. A service with a container_name or a fixed published port can have one container only.',
        },
      },
      awaitHealthy('wait until healthy', target, time.healthy, { [service]: replicas }),
      measure('after', target),
    ],
    undo: [],
    cleanup: [],
  };
}
