import type { HostReader, StartStep, Step, WriteStep } from '../../plan/plan.ts';
import type { Switch } from '../executor.ts';
import { planHealthCheck, planVerify } from '../verify-steps.ts';
import { stackMemoryFolder } from './current-state.ts';
import { explainSingle, type RenderedConfig, renderConfig, requireService, strategyImpossible } from './render.ts';
import { planChange, planDockerCall } from './steps.ts';
import { planRecreate, type Strategy, type StrategyContext } from './strategy.ts';
import { type ComposeTarget, type ComposeVariant, claimSwitchFile, composeFile, GREEN } from './target.ts';
import { changedCompose, planImageTags } from './undo.ts';

const SWITCH_STEP = 'switch';
/** Time for visitors to move from the old project to the new one, in milliseconds. */
const MOVE_OVER = 5_000;

/**
 * Brings up a second compose project next to the one that serves, checks it, switches to it, and takes the old one down.
 * The two project names alternate. Throws Failure `strategy-impossible`, `service-unknown`.
 */
export async function planBlueGreen(context: StrategyContext): Promise<Strategy> {
  const { intent, target, site, state, limits, host, shipment } = context;
  const to = intent.switch as Switch;
  const rendered = await renderConfig(context);
  if (rendered) checkPair(rendered, to);
  const names = chooseProjectNames(context, rendered);
  if (state.containers && !names.live) return planFirstRollout(context, to, names.next);
  const live = names.live ?? '(the project that serves)';
  const next: ComposeTarget = {
    ...target,
    project: { dir: target.dir, name: names.next },
    whole: { dir: target.dir, name: names.next },
  };
  const unpublished = 'service' in to ? await unpublish(context, to.service) : undefined;
  const variant: ComposeVariant = { project: names.next };
  const up = ['up', '--detach', '--no-build', '--remove-orphans'];
  const bringUp = planChange(`bring up ${names.next}`, target, up, limits.up, undefined, {
    ...variant,
    files: unpublished?.files,
  });
  const takeDown = planChange(`take down ${live}`, target, ['down', '--remove-orphans'], limits.up, undefined, {
    project: live,
  });
  const healthy = planHealthCheck(`wait until ${names.next} is healthy`, next.whole, limits.healthy);
  const switchOver = switchSteps(context, to, { live, next });
  return {
    pulls: [],
    steps: [
      ...(unpublished ? [unpublished.step] : []),
      bringUp,
      healthy,
      ...planVerify(intent.verify, next.whole, { allow: site.verify, healthy: limits.healthy }),
      ...switchOver,
      { do: 'settle', name: 'let visitors move over', project: next.whole, for: MOVE_OVER },
      takeDown,
    ],
    undo: await planSwitchBack(
      context,
      { live, next, bringUp, takeDown, restores: shipment.step !== undefined, to },
      host,
    ),
    after: next,
  };
}

interface ProjectNames {
  live: string | undefined;
  next: string;
}

/** Returns the name of the project that serves, and of its successor. Throws Failure if both run. */
function chooseProjectNames({ state, target }: StrategyContext, rendered: RenderedConfig | undefined): ProjectNames {
  const blue = rendered?.name.replace(new RegExp(`${GREEN}$`), '') ?? target.dir.slice(target.dir.lastIndexOf('/') + 1);
  const running = [...new Set((state.containers ?? []).filter(one => one.running).map(({ project }) => project))];
  if (running.length > 1) {
    throw strategyImpossible(
      'blue-green',
      `${running.join(' and ')} both run`,
      'Find out which one serves, and take the other down: "docker compose --project-name NAME down" in the stack’s folder.',
    );
  }
  const [live] = running;
  return { live, next: live === undefined || live.endsWith(GREEN) ? blue : `${live}${GREEN}` };
}

/** Checks that two projects of one file can run side by side. Throws Failure `strategy-impossible`, `service-unknown`. */
function checkPair(rendered: RenderedConfig, to: Switch): void {
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
async function planFirstRollout(context: StrategyContext, to: Switch, project: string): Promise<Strategy> {
  const recreate = await planRecreate(context);
  return { ...recreate, steps: [...recreate.steps, ...('file' in to ? [switchFile(context, to, project)] : [])] };
}

function switchSteps(
  context: StrategyContext,
  to: Switch,
  { live, next }: { live: string; next: ComposeTarget },
): Step[] {
  const { target, state, limits, site } = context;
  const project = next.whole.name ?? '';
  if ('file' in to) return [switchFile(context, to, project)];
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
    planChange(SWITCH_STEP, target, ['up', '--detach', '--no-build', '--no-deps', to.service], limits.up, undefined, {
      project,
    }),
    planHealthCheck('wait until it serves', { ...next.whole, services: [to.service] }, limits.healthy),
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

/** Keeps the new project from publishing the port before the switch: the old project still has it. */
async function unpublish(
  { target, intent, site, files }: StrategyContext,
  service: string,
): Promise<{ step: WriteStep; files: string[] }> {
  const path = `${stackMemoryFolder(site, intent.stack)}/unpublished.yaml`;
  const text = `services:\n  ${service}:\n    ports: !reset []\n`;
  const named = composeFile(intent, site) ?? target.file ?? `${target.dir}/${files[0]?.path ?? 'compose.yaml'}`;
  return {
    step: {
      do: 'write',
      name: 'leave the port',
      changes: [{ path, root: site.memory, mode: 0o600, own: true, content: { text } }],
    },
    files: [named, path],
  };
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
async function planSwitchBack(context: StrategyContext, options: SwitchPlan, host: HostReader): Promise<Step[]> {
  const { target, site, state, limits, intent } = context;
  if (intent.on_failure === 'stop') return [];
  const newest = state.releases.at(-1);
  const files = newest && !options.restores ? await changedCompose(newest, intent.stack, site, host) : undefined;
  const live = { dir: target.dir, name: options.live };
  const up = ['up', '--detach', '--no-build', '--pull', 'never', '--remove-orphans'];
  const ifSwitched = 'file' in options.to ? options.takeDown.name : 'free the port';
  // The new project frees the port before the old one publishes it again.
  const downNext = planChange(
    `take down ${options.next.whole.name}`,
    target,
    ['down', '--remove-orphans'],
    limits.up,
    undefined,
    {
      project: options.next.whole.name,
    },
  );
  return [
    ...(options.restores
      ? [{ do: 'restore' as const, name: 'put files back', of: 'write files', ifBegan: 'write files' }]
      : []),
    ...planImageTags(state, site).map(step => ({ ...step, ifBegan: 'pull' })),
    ...('file' in options.to
      ? [{ do: 'restore' as const, name: 'switch back', of: SWITCH_STEP, ifBegan: SWITCH_STEP }]
      : [{ ...downNext, ifBegan: 'free the port' }]),
    {
      ...planChange(`bring up ${options.live} again`, target, up, limits.up, undefined, {
        project: options.live,
        files,
      }),
      ifBegan: ifSwitched,
    },
    {
      ...planHealthCheck(`wait until ${options.live} is healthy again`, live, limits.healthy),
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
