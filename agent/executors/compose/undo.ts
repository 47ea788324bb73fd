import type { HostReader, Release, StartStep, Step } from '../../plan/plan.ts';
import type { HostSite, Intent, Verify } from '../executor.ts';
import { planHealthCheck, planVerify } from '../verify-steps.ts';
import { FIRST_RELEASE, planRemember, releasedContentPath, reviveOptions, type StackState } from './current-state.ts';
import { type Shipment, WRITE_STEP } from './ship-files.ts';
import { planChange, planDockerCall, planMeasure, planTidy, type StepLimits } from './steps.ts';
import type { ComposeTarget } from './target.ts';

/** What a way back is planned from. */
export interface UndoContext {
  intent: { stack: string; verify?: Verify | undefined; on_failure?: Intent['on_failure'] };
  target: ComposeTarget;
  site: HostSite;
  now: StackState;
  shipment: Shipment;
  time: StepLimits;
  look: HostReader;
}

/** What it is the way back from. */
export interface UndoOptions {
  /** The step from which on images may have got other tags. */
  tagsSince: string;
  /** The step from which on containers may have been changed, and the arguments of `up` for the way back. */
  upSince: string;
  up: string[];
  replicas?: Record<string, number>;
  /** Containers that run on beside the new ones, until the step of that name: up to there nothing else has to be done than to take the new ones away. */
  beside?: { step: string; ids: string[] };
}

/**
 * The way back: files as they were, tags on the images that ran, and up with what the compose file said when it last
 * worked; then the same checks. Where nothing ran before, there is nothing to bring back: files go back unless containers
 * of the new ones may be there.
 */
export async function planUndo(ground: UndoContext, undoing: UndoOptions): Promise<Step[]> {
  const { target, shipment, time, now, site } = ground;
  const { upSince } = undoing;
  const restore: Step = { do: 'restore', name: 'put files back', of: WRITE_STEP, ifBegan: WRITE_STEP };
  if (ground.intent.on_failure === 'stop') return planRepair(ground, undoing);
  const ranBefore = now.containers === undefined || now.containers.length > 0;
  if (!ranBefore) return shipment.step ? [{ ...restore, unlessBegan: upSince }] : [];
  const compose = await earlierCompose(ground);
  const up = planChange('up again', target, ['up', '--pull', 'never', ...undoing.up], time.up, undefined, {
    files: compose,
  });
  const since = { ifBegan: upSince };
  const beside = undoing.beside;
  const bringBack: Step[] = beside
    ? [
        {
          ...planTidy('remove the new', target, site),
          project: target.project,
          keep: beside.ids,
          changes: true,
          ...since,
          unlessBegan: beside.step,
        },
        ...[planTidy('tidy up', target, site), up].map(step => ({ ...step, ifBegan: beside.step })),
      ]
    : [planTidy('tidy up', target, site), up].map(step => ({ ...step, ...since }));
  const healthy = planHealthCheck('wait until healthy again', target.project, time.healthy, {
    ...(undoing.replicas ? { replicas: undoing.replicas } : {}),
    ...reviveOptions(up, now),
  });
  const checks = planVerify(ground.intent.verify, target.whole, {
    allow: site.verify,
    healthy: time.healthy,
    again: true,
  });
  return [
    ...(shipment.step ? [restore] : []),
    ...planImageTags(now, site).map(step => ({ ...step, ifBegan: undoing.tagsSince })),
    ...bringBack,
    ...[healthy, ...checks, planMeasure('after', target.project, 'images after undo')].map(step => ({
      ...step,
      ...since,
    })),
  ];
}

/**
 * What belongs to undoing a change of a stack that had succeeded, beside its way back: what runs again is the newest release.
 * Where nothing had run before, the containers go; volumes stay.
 */
export function planLateUndo({ intent, target, site, now, shipment, time }: Omit<UndoContext, 'look'>): Step[] {
  if (intent.on_failure === 'stop') return [];
  if (now.containers?.length === 0) {
    const down = planChange('down', target, ['down', '--remove-orphans'], time.up);
    return shipment.step
      ? [down, { do: 'restore', name: 'put files back', of: WRITE_STEP, ifBegan: WRITE_STEP }]
      : [down];
  }
  const newest = now.releases.at(-1);
  return [
    planRemember('remember what was put back', intent.stack, target, site, {
      files: newest ? newest.files : shipment.earlier,
      compose: newest?.compose,
      of: newest?.runs.at(-1) ?? FIRST_RELEASE,
    }),
  ];
}

/** What was stopped half-way is brought to an end, where nothing is to be brought back: a service must not stay down. */
function planRepair({ target, site, time }: UndoContext, { up, upSince }: UndoOptions): Step[] {
  return [
    { ...planTidy('tidy up', target, site), ifCut: upSince },
    { ...planChange('up once more', target, ['up', ...up], time.up), ifCut: upSince },
  ];
}

/** Tags back on the images that ran, for references that are tags. */
export function planImageTags({ containers = [] }: Pick<StackState, 'containers'>, site: HostSite): StartStep[] {
  const images = new Map(containers.map(({ reference, image }) => [reference, image]));
  return planTags(
    [...images].map(([reference, image]) => ({ reference, image })),
    site,
    'put back',
  );
}

/** One step for each reference that can be given to an image. */
export function planTags(images: { reference: string; image: string }[], site: HostSite, verb: string): StartStep[] {
  const taggable = images.filter(({ reference }) => !reference.includes('@') && !reference.startsWith('sha256:'));
  const once = new Map(taggable.map(({ reference, image }) => [reference, image]));
  return [...once].map(([reference, image]) =>
    planDockerCall(`${verb} ${reference}`, [site.docker, 'image', 'tag', image, reference], {
      failure: {
        code: 'image-gone',
        remedy: `The image ${image.slice(0, 19)} is not on the host any more. Pull ${reference} as it was, or restore it.`,
      },
    }),
  );
}

/** The compose files of the newest release, where those on the host have been changed since by hand. */
async function earlierCompose({ intent, site, now, shipment, look }: UndoContext): Promise<string[] | undefined> {
  const newest = now.releases.at(-1);
  return newest && !shipment.step ? changedCompose(newest, intent.stack, site, look) : undefined;
}

/** The kept compose files of a release, where those on the host differ; undefined where they are the same. */
export async function changedCompose(
  release: Release,
  stack: string,
  site: HostSite,
  look: HostReader,
): Promise<string[] | undefined> {
  const kept = release.compose.map(file => releasedContentPath(site, stack, file));
  const texts = await Promise.all(
    release.compose.map(async (file, index) => [await look.read(file.path), await look.read(kept[index] ?? '')]),
  );
  // One that was not kept can't be brought back.
  if (texts.length === 0 || texts.some(([, text]) => typeof text !== 'string')) return undefined;
  return texts.some(([is, was]) => is !== was) ? kept : undefined;
}
