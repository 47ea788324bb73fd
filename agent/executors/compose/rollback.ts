import { CannotPlan } from '../../plan/failure.ts';
import type { Look, Plan, Release } from '../../plan/plan.ts';
import type { Change, Context, Intent, Site } from '../executor.ts';
import { healthStep, verifySteps } from '../verify-steps.ts';
import {
  contentOf,
  forgetImages,
  keepImages,
  lookNow,
  memoryOf,
  type Now,
  previousOf,
  remember,
  revive,
} from './current-state.ts';
import { summarize } from './diff.ts';
import { planDataBack } from './restore-data.ts';
import { planShipment } from './ship-files.ts';
import { change, checkConfig, limits, measure, tidy } from './steps.ts';
import { findTarget } from './target.ts';
import { changedCompose, planUndo, tagSteps, undoneLate } from './undo.ts';

type Rollback = Extract<Intent, { action: 'rollback' }>;

const UNKNOWN: Release = { runs: ['(not known)'], at: '', images: [], files: null, compose: [] };

/** Files, tags and compose files of an earlier release come back, and up brings the stack to them. Nothing is pulled. */
export async function planRollback(intent: Rollback, context: Context, look: Look): Promise<Plan> {
  const { site } = context;
  const { stack } = intent;
  const target = await findTarget(intent, site, look);
  const now = await lookNow(stack, target, site, look);
  const release = now.containers === undefined ? UNKNOWN : await findRelease(intent, now, site, look);
  const run = release.runs.at(-1) ?? '';
  const wanted = (release.files ?? []).map(file => ({ ...file, kept: contentOf(site, stack, file) }));
  const shipment = await planShipment(target.dir, stack, wanted, site, look);
  const ships = wanted.some(({ path }) => `${target.dir}/${path}` === target.file);
  const files = ships ? undefined : await changedCompose(release, stack, site, look);
  const time = limits(intent.timeout);
  const tags = tagSteps(release.images, site, 'use');
  const up = ['--detach', '--no-build', '--remove-orphans'];
  const bringUp = change('up', target, ['up', '--pull', 'never', ...up], time.up, undefined, { files });
  const isKnown = now.containers !== undefined;
  const data =
    intent.restore_data === true && isKnown
      ? await planDataBack(now.releases.at(-1), target, time, context, look)
      : { since: 'up', steps: [], undo: [], cleanup: [] };
  const changes = changesTo(release, now, [...shipment.writes.map(({ path }) => path)], shipment.removes);
  return {
    title: `rollback of ${stack} to ${intent.to ?? 'previous'}${release === UNKNOWN ? '' : ` (run ${run}, ${release.at})`}`,
    summary: now.containers === undefined ? 'Not compared: a dry run looks at nothing.' : summarize(changes),
    changes,
    steps: [
      measure('before', target.project),
      ...(shipment.step ? [shipment.step] : []),
      checkConfig(stack, target, site, { files }),
      ...keepImages(stack, now, site),
      ...tags,
      ...(now.leftovers ? [tidy('tidy', target, site)] : []),
      ...data.steps,
      bringUp,
      healthStep('wait until healthy', target.project, time.healthy, revive(bringUp, now)),
      ...verifySteps(intent.verify, target.whole, { allow: site.verify, healthy: time.healthy }),
      measure('after', target.project),
      remember('remember the release', stack, target, site, {
        files: release.files,
        compose: release.compose,
        of: run,
      }),
    ],
    undo: [
      ...data.undo,
      ...(await planUndo(
        { intent, target, site, now, shipment, time, look },
        { tagsSince: tags[0]?.name ?? 'up', upSince: data.since, up },
      )),
    ],
    cleanup: [...data.cleanup, ...forgetImages(stack, now, site)],
    late: undoneLate({ intent, target, site, now, shipment, time }),
  };
}

/** The release that is meant, with everything that it takes. Throws CannotPlan: `release-unknown`, `release-incomplete`, `image-gone`. */
async function findRelease(intent: Rollback, now: Now, site: Site, look: Look): Promise<Release> {
  const { stack, to = 'previous' } = intent;
  const release = to === 'previous' ? previousOf(now.releases) : now.releases.find(({ runs }) => runs.includes(to));
  if (!release) {
    const known = now.releases.map(({ runs, at }) => `${runs.at(-1)} (${at})`).join(', ');
    throw new CannotPlan(
      'release-unknown',
      to === 'previous'
        ? `There is no release of ${stack} before the one that runs.`
        : `No release of ${stack} was left by the run ${to}.`,
      known === '' ? 'A stack has a release from its first rollout on.' : `Those that can come back: ${known}.`,
    );
  }
  for (const { service, reference, image } of release.images) {
    if ((await look.engine(`/images/${encodeURIComponent(image)}/json`)) !== null) continue;
    throw new CannotPlan(
      'image-gone',
      `The image ${image.slice(0, 19)} that ${service} ran (${reference}) is not on the host any more. Nothing was changed.`,
      'Choose another release, or roll out a version that the registry has.',
    );
  }
  const kept = (await look.list(`${memoryOf(site, stack)}/files`)) ?? [];
  const missing = (release.files ?? []).find(({ sha256 }) => !kept.includes(sha256));
  if (!missing) return release;
  throw new CannotPlan(
    'release-incomplete',
    `The content of ${missing.path} as it was then is not kept. Nothing was changed.`,
    'Revert the change in the repository, and roll that out.',
  );
}

function changesTo(release: Release, now: Now, writes: string[], removes: string[]): Change[] {
  return [
    ...writes.map((path): Change => ({ subject: path, change: 'write', details: [] })),
    ...removes.map((path): Change => ({ subject: path, change: 'remove', details: ['not part of that release'] })),
    ...release.images.map(({ service, reference, image }): Change => {
      const is = now.containers?.find(one => one.service === service);
      const details =
        is?.image === image
          ? []
          : [`image ${is ? `${is.reference} ${is.image.slice(7, 19)}` : 'none'} → ${reference} ${image.slice(7, 19)}`];
      return { subject: service, change: details.length === 0 ? 'none' : 'recreate', details };
    }),
  ];
}
