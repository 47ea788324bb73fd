import type { StartStep, Step } from '../../plan/plan.ts';
import type { HostSite, Intent, Verify } from '../executor.ts';
import { planHealthCheck, planVerify } from '../verify-steps.ts';
import type { StackBefore } from './checked-config.ts';
import type { CheckedStack } from './compose-command.ts';
import { FIRST_RELEASE, planRemember, reviveOptions, type StackState } from './current-state.ts';
import { type Shipment, WRITE_STEP } from './ship-files.ts';
import {
  PREPARE_AGAIN_STEP,
  planChange,
  planDockerCall,
  planMeasure,
  planPrepareMounts,
  planTidy,
  type StepLimits,
} from './steps.ts';
import type { ComposeTarget } from './target.ts';

/** Input of an undo. */
export interface UndoContext {
  intent: { stack: string; verify?: Verify | undefined; on_failure?: Intent['on_failure'] };
  target: ComposeTarget;
  site: HostSite;
  state: StackState;
  shipment: Shipment;
  limits: StepLimits;
  /** The version that the plan brings up, and the one before. */
  next: CheckedStack;
  before: StackBefore;
}

/** The change that is to be undone. */
export interface UndoOptions {
  /** Name of the first step after which images may have other tags. */
  tagsSince: string;
  /** Name of the first step after which containers may be changed. */
  upSince: string;
  /** Arguments of `up` for the undo. */
  up: string[];
  replicas?: Record<string, number>;
  /** Old containers that keep running next to the new ones until the step of that name: up to there the undo only removes the new ones. */
  additional?: { step: string; ids: string[] };
}

/**
 * Plans the undo: restores the files, tags the images that ran, and runs "up" with the config that worked last; then the same
 * checks. If nothing ran before or it can't be started again, only the files are restored, unless new containers may exist.
 */
export function planUndo(context: UndoContext, options: UndoOptions): Step[] {
  const { target, shipment, limits, state, site, before } = context;
  const { upSince } = options;
  const restore: Step = { do: 'restore', name: 'put files back', of: WRITE_STEP, ifBegan: WRITE_STEP };
  if (context.intent.on_failure === 'stop') return planRepair(context, options);
  if (!before || 'refused' in before) return shipment.step ? [{ ...restore, unlessBegan: upSince }] : [];
  const config = before.stack.of(target.name);
  const up = planChange('up again', config, ['up', '--pull', 'never', ...options.up], limits.up);
  const prepare = planPrepareMounts(PREPARE_AGAIN_STEP, before.stack, config, context);
  const bringUp = [...prepare, up];
  const ifChanged = { ifBegan: upSince };
  const additional = options.additional;
  const bringBack: Step[] = additional
    ? [
        {
          ...planTidy('remove the new', target, site),
          project: target.project,
          keep: additional.ids,
          changes: true,
          ...ifChanged,
          unlessBegan: additional.step,
        },
        ...[planTidy('tidy up', target, site), ...bringUp].map(step => ({ ...step, ifBegan: additional.step })),
      ]
    : [planTidy('tidy up', target, site), ...bringUp].map(step => ({ ...step, ...ifChanged }));
  const healthy = planHealthCheck('wait until healthy again', target.project, site, limits.healthy, {
    ...(options.replicas ? { replicas: options.replicas } : {}),
    ...reviveOptions(prepare, up, state),
  });
  const checks = planVerify(context.intent.verify, target.whole, site, { healthy: limits.healthy, again: true });
  return [
    ...(shipment.step ? [restore] : []),
    ...planImageTags(state, site).map(step => ({ ...step, ifBegan: options.tagsSince })),
    ...bringBack,
    ...[healthy, ...checks, planMeasure('after', target.project, 'images after undo')].map(step => ({
      ...step,
      ...ifChanged,
    })),
  ];
}

/**
 * Plans the steps that follow the undo of a change that had succeeded: the restored version is recorded as the newest
 * release. If nothing had run before, the containers are removed; volumes stay.
 */
export function planLateUndo({ intent, target, site, state, shipment, limits, next, before }: UndoContext): Step[] {
  if (intent.on_failure === 'stop') return [];
  if (!before) {
    const down = planChange('down', next.of(target.name), ['down', '--remove-orphans'], limits.up);
    return shipment.step
      ? [down, { do: 'restore', name: 'put files back', of: WRITE_STEP, ifBegan: WRITE_STEP }]
      : [down];
  }
  if ('refused' in before) return [];
  const newest = state.releases.at(-1);
  return [
    planRemember('remember what was put back', intent.stack, target, site, {
      files: newest ? newest.files : shipment.earlier,
      config: before.stack.base,
      of: newest?.runs.at(-1) ?? FIRST_RELEASE,
    }),
  ];
}

/** Completes an interrupted change if `on_failure: stop` forbids an undo: a service must not stay down. */
function planRepair(context: UndoContext, { up, upSince }: UndoOptions): Step[] {
  const { target, site, limits, next } = context;
  const config = next.of(target.name);
  return [
    planTidy('tidy up', target, site),
    ...planPrepareMounts(PREPARE_AGAIN_STEP, next, config, context),
    planChange('up once more', config, ['up', ...up], limits.up),
  ].map(step => ({ ...step, ifCut: upSince }));
}

/** Plans the tags of the images that ran, for references that are tags. */
export function planImageTags({ containers = [] }: Pick<StackState, 'containers'>, site: HostSite): StartStep[] {
  const images = new Map(containers.map(({ reference, image }) => [reference, image]));
  return planTags(
    [...images].map(([reference, image]) => ({ reference, image })),
    site,
    'put back',
  );
}

/** Plans one step for each reference that an image can be tagged with. */
export function planTags(images: { reference: string; image: string }[], site: HostSite, verb: string): StartStep[] {
  const taggable = images.filter(({ reference }) => !reference.includes('@') && !reference.startsWith('sha256:'));
  const imageByReference = new Map(taggable.map(({ reference, image }) => [reference, image]));
  return [...imageByReference].map(([reference, image]) =>
    planDockerCall(`${verb} ${reference}`, [site.docker, 'image', 'tag', image, reference], {
      failure: {
        code: 'image-gone',
        remedy: `The image ${image.slice(0, 19)} is not on the host any more. Pull ${reference} as it was, or restore it.`,
      },
    }),
  );
}
