import type { HostReader, Plan } from '../../plan/plan.ts';
import type { Intent, PlanContext } from '../executor.ts';
import { planHealthCheck, planVerify } from '../verify-steps.ts';
import { readStackState, reviveOptions } from './current-state.ts';
import { compareScale, summarize } from './diff.ts';
import { parseLimits, planChange, planConfigCheck, planMeasure, planTidy } from './steps.ts';
import { findTarget } from './target.ts';

type ScaleIntent = Extract<Intent, { action: 'scale' }>;

/** One service gets as many containers as asked for; `--no-deps` and `--no-recreate` leave everything else alone. */
export async function planScale(
  intent: ScaleIntent,
  { site, wantsDiff }: PlanContext,
  look: HostReader,
): Promise<Plan> {
  const target = await findTarget(intent, site, look);
  const { service, replicas, stack, verify } = intent;
  const now = await readStackState(stack, target, site, look);
  const before = now.containers?.filter(one => one.service === service && one.running).length;
  const time = parseLimits(intent.timeout);
  const changes = wantsDiff ? await compareScale(intent, target, look) : [];
  const scaled = (name: string, to: number) =>
    planChange(
      name,
      target,
      ['up', '--detach', '--no-build', '--no-recreate', '--no-deps', '--scale', `${service}=${to}`, service],
      time.up,
      {
        code: 'scale-failed',
        remedy:
          'Read the step’s output. A service with a container_name or a fixed published port can have one container only.',
      },
    );
  const healthy = (name: string, to: number) =>
    planHealthCheck(name, target.project, time.healthy, {
      replicas: { [service]: to },
      ...reviveOptions(scaled('scale again', to), now),
    });
  const back = before ?? 1;
  const checks = (again: boolean) =>
    planVerify(verify, target.whole, { allow: site.verify, healthy: time.healthy, again }).map(step =>
      again ? { ...step, ifBegan: 'scale' } : step,
    );
  return {
    title: `scale ${service} on ${stack} to ${replicas}`,
    summary: wantsDiff ? summarize(changes) : 'Not compared: a run finds out by doing it.',
    changes,
    steps: [
      planMeasure('before', target.project),
      planConfigCheck(intent.stack, target, site),
      scaled('scale', replicas),
      healthy('wait until healthy', replicas),
      ...checks(false),
      planMeasure('after', target.project),
    ],
    undo:
      intent.on_failure === 'stop'
        ? [
            { ...planTidy('tidy up', target, site), ifCut: 'scale' },
            { ...scaled('scale once more', replicas), ifCut: 'scale' },
          ]
        : [
            { ...planTidy('tidy up', target, site), ifBegan: 'scale' },
            { ...scaled('scale back', back), ifBegan: 'scale' },
            { ...healthy('wait until healthy again', back), ifBegan: 'scale' },
            ...checks(true),
            { ...planMeasure('after', target.project, 'images after undo'), ifBegan: 'scale' },
          ],
    cleanup: [],
  };
}
