import type { ComposeConfig, StartStep, Step, WriteStep } from '../../plan/plan.ts';
import type { Switch } from '../executor.ts';
import { planHealthCheck, planVerify } from '../verify-steps.ts';
import type { StackState } from './current-state.ts';
import { explainSingle, requireService, strategyImpossible } from './side-by-side.ts';
import {
  PREPARE_AGAIN_STEP,
  PREPARE_STEP,
  PREPARE_SWITCH_STEP,
  planChange,
  planDockerCall,
  planPrepareMounts,
} from './steps.ts';
import { planRecreate, requireWayBack, type Strategy, type StrategyContext } from './strategy.ts';
import { type ComposeTarget, claimSwitchFile, GREEN } from './target.ts';
import { planImageTags } from './undo.ts';

const SWITCH_STEP = 'switch';
/** Time for visitors to move from the old project to the new one, in milliseconds. */
const MOVE_OVER = 5_000;

/**
 * Brings up a second compose project next to the one that serves, checks it, switches to it, and takes the old one down.
 * The two project names alternate. Throws Failure `strategy-impossible`, `service-unknown`.
 */
export function planBlueGreen(context: StrategyContext, names: ProjectNames): Strategy {
  const { intent, target, site, limits, next: checked, shipment } = context;
  const to = intent.switch as Switch;
  if (checked.rendered) checkPair(checked.rendered, to);
  const { live } = names;
  if (live === undefined) return planFirstRollout(context, to, names.next);
  requireWayBack('blue-green', context);
  const whole = { dir: target.dir, name: names.next };
  const next: ComposeTarget = { ...target, name: names.next, project: whole, whole };
  const config = checked.of(names.next);
  const first = checked.unpublished ?? config;
  const up = ['up', '--detach', '--no-build', '--remove-orphans'];
  const bringUp = planChange(`bring up ${names.next}`, first, up, limits.up);
  const takeDown = planChange(`take down ${live}`, checked.of(live), ['down', '--remove-orphans'], limits.up);
  const healthy = planHealthCheck(`wait until ${names.next} is healthy`, next.whole, site, limits.healthy);
  const switchOver = switchSteps(context, to, { live, next });
  return {
    pulls: [],
    steps: [
      ...planPrepareMounts(PREPARE_STEP, checked, first, context),
      bringUp,
      healthy,
      ...planVerify(intent.verify, next.whole, site, { healthy: limits.healthy }),
      ...switchOver,
      { do: 'settle', name: 'let visitors move over', project: next.whole, for: MOVE_OVER },
      takeDown,
    ],
    undo: planSwitchBack(context, { live, next, bringUp, takeDown, restores: shipment.step !== undefined, to }),
    after: next,
  };
}

export interface ProjectNames {
  live: string | undefined;
  next: string;
}

/**
 * Returns the name of the project that serves, and of its successor; in a dry run those of a stack that runs under its own
 * name. Throws Failure `strategy-impossible`.
 */
export function chooseProjectNames({ ownName }: ComposeTarget, { containers }: StackState): ProjectNames {
  const green = `${ownName}${GREEN}`;
  if (!containers) return { live: ownName, next: green };
  const running = [...new Set(containers.filter(one => one.running).map(({ project }) => project))];
  if (running.length > 1) {
    throw strategyImpossible(
      'blue-green',
      `${running.join(' and ')} both run`,
      'Find out which one serves, and take the other down: "docker compose --project-name NAME down" in the stack’s folder.',
    );
  }
  const [live] = running;
  if (live !== undefined && live !== ownName && live !== green) {
    throw strategyImpossible(
      'blue-green',
      `the project ${live} runs in the stack’s folder, and its name must be ${ownName}`,
      `Name it in agent.yaml: compose.grants, "project: ${live}". Or take it down, and roll out again.`,
    );
  }
  return { live, next: live === ownName ? green : ownName };
}

/** Checks that two projects of one file can run side by side. Throws Failure `strategy-impossible`, `service-unknown`. */
function checkPair(rendered: ComposeConfig, to: Switch): void {
  const remedy = 'Change the compose file, or use strategy: recreate.';
  for (const [name, service] of Object.entries(rendered.services)) {
    const isSwitched = 'service' in to && to.service === name;
    const obstacle = explainSingle(name, isSwitched ? { ...service, ports: [] } : service);
    if (obstacle) throw strategyImpossible('blue-green', obstacle, remedy);
  }
  if ('service' in to) {
    const service = requireService(rendered, to.service);
    if ((service.ports ?? []).length === 0)
      throw strategyImpossible('blue-green', `${to.service}, which is to be switched, publishes no port`, remedy);
  }
  const own = Object.entries(rendered.volumes ?? {}).find(([, volume]) => volume?.external !== true);
  if (own) {
    throw strategyImpossible(
      'blue-green',
      `the volume ${own[0]} would be another, empty one in the second project`,
      'Make the volume external, so that both projects share it, or use strategy: recreate.',
    );
  }
}

/** Nothing serves yet: brings the project up, and leads visitors there. */
function planFirstRollout(context: StrategyContext, to: Switch, project: string): Strategy {
  const recreate = planRecreate(context);
  return { ...recreate, steps: [...recreate.steps, ...('file' in to ? [switchFile(context, to, project)] : [])] };
}

function switchSteps(
  context: StrategyContext,
  to: Switch,
  { live, next }: { live: string; next: ComposeTarget },
): Step[] {
  const { state, limits, site } = context;
  if ('file' in to) return [switchFile(context, to, next.name)];
  // A port has one owner at a time: the old container frees it before the new one publishes it.
  const old = (state.containers ?? []).filter(one => one.service === to.service).map(({ id }) => id);
  return [
    planDockerCall(
      'free the port',
      [site.docker, 'container', 'stop', ...(state.containers ? old : [`(${to.service} of ${live})`])],
      {
        changes: true,
        timeout: limits.up,
      },
    ),
    // The second project was started with another file, which publishes no port.
    ...planPrepareMounts(PREPARE_SWITCH_STEP, context.next, context.next.of(next.name), context),
    planChange(
      SWITCH_STEP,
      context.next.of(next.name),
      ['up', '--detach', '--no-build', '--no-deps', to.service],
      limits.up,
    ),
    planHealthCheck('wait until it serves', { ...next.whole, services: [to.service] }, site, limits.healthy),
  ];
}

function switchFile(
  { target, intent, site }: StrategyContext,
  to: Extract<Switch, { file: string }>,
  project: string,
): WriteStep {
  const { path, root } = claimSwitchFile(to, target.dir, intent.stack, site);
  const text = to.text.replaceAll('$PROJECT', project);
  return { do: 'write', name: SWITCH_STEP, changes: [{ path, root, mode: 0o644, content: { text } }] };
}

interface SwitchPlan {
  live: string;
  next: ComposeTarget;
  bringUp: StartStep;
  takeDown: StartStep;
  restores: boolean;
  to: Switch;
}

/** Plans the rollback to the project that served: it still runs, unless it was being taken down. */
function planSwitchBack(context: StrategyContext, options: SwitchPlan): Step[] {
  const { target, site, state, limits, intent, next: checked, before } = context;
  if (intent.on_failure === 'stop' || !before || 'refused' in before) return [];
  const live = { dir: target.dir, name: options.live };
  const config = before.stack.of(options.live);
  const up = ['up', '--detach', '--no-build', '--pull', 'never', '--remove-orphans'];
  const ifSwitched = 'file' in options.to ? options.takeDown.name : 'free the port';
  // The new project frees the port before the old one publishes it again.
  const { name: nextName } = options.next;
  const downNext = planChange(`take down ${nextName}`, checked.of(nextName), ['down', '--remove-orphans'], limits.up);
  return [
    ...(options.restores
      ? [{ do: 'restore' as const, name: 'put files back', of: 'write files', ifBegan: 'write files' }]
      : []),
    ...planImageTags(state, site).map(step => ({ ...step, ifBegan: 'pull' })),
    ...('file' in options.to
      ? [{ do: 'restore' as const, name: 'switch back', of: SWITCH_STEP, ifBegan: SWITCH_STEP }]
      : [{ ...downNext, ifBegan: 'free the port' }]),
    ...[
      ...planPrepareMounts(PREPARE_AGAIN_STEP, before.stack, config, context),
      planChange(`bring up ${options.live} again`, config, up, limits.up),
    ].map(step => ({ ...step, ifBegan: ifSwitched })),
    {
      ...planHealthCheck(`wait until ${options.live} is healthy again`, live, site, limits.healthy),
      ifBegan: options.bringUp.name,
    },
    ...('file' in options.to
      ? [{ ...downNext, ifBegan: options.bringUp.name }]
      : [
          {
            ...downNext,
            name: `${downNext.name} as well`,
            ifBegan: options.bringUp.name,
            unlessBegan: 'free the port',
          },
        ]),
  ];
}
