import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, Release } from '../../plan/plan.ts';
import type { Change, HostSite, Intent, PlanContext } from '../executor.ts';
import { planHealthCheck, planVerify } from '../verify-steps.ts';
import { checkBefore, checkRelease, describeOneWay } from './checked-config.ts';
import {
  findPreviousRelease,
  planForgetImages,
  planKeepImages,
  planRemember,
  readStackState,
  releasedContentPath,
  reviveOptions,
  type StackState,
  stackMemoryFolder,
} from './current-state.ts';
import { summarize } from './diff.ts';
import { planDataRestore } from './restore-data.ts';
import { planShipment } from './ship-files.ts';
import { PREPARE_STEP, parseLimits, planChange, planMeasure, planPrepareMounts, planTidy } from './steps.ts';
import { findTarget } from './target.ts';
import { planLateUndo, planTags, planUndo } from './undo.ts';

type RollbackIntent = Extract<Intent, { action: 'rollback' }>;

const UNKNOWN: Release = { runs: ['(not known)'], at: '', images: [], files: null };

/** Plans a rollback: the files, image tags and compose files of an earlier release come back, and "up" applies them. Nothing is pulled. */
export async function planRollback(intent: RollbackIntent, context: PlanContext, host: HostReader): Promise<Plan> {
  const { site } = context;
  const { stack } = intent;
  const target = await findTarget(intent, site, host);
  const state = await readStackState(stack, target, site, host);
  const release = state.containers === undefined ? UNKNOWN : await findRelease(intent, state, site, host);
  const run = release.runs.at(-1) ?? '';
  const wanted = (release.files ?? []).map(file => ({
    ...file,
    at: releasedContentPath(site, stack, file),
    isKept: true as const,
  }));
  const shipment = await planShipment(target.dir, stack, wanted, site, host);
  const checkContext = { intent, target, site, configs: context.configs, host };
  const next = await checkRelease(checkContext, release, { as: 'next', removes: shipment.removes });
  const before = await checkBefore(checkContext, state, shipment, next);
  const config = next.of(target.name);
  const limits = parseLimits(intent.timeout);
  const tags = planTags(release.images, site, 'use');
  const up = ['--detach', '--no-build', '--remove-orphans'];
  const bringUp = planChange('up', config, ['up', '--pull', 'never', ...up], limits.up);
  const prepare = planPrepareMounts(PREPARE_STEP, next, config, { target, site, intent });
  const undoContext = { intent, target, site, state, shipment, limits, next, before };
  const running = before && 'stack' in before ? before.stack.of(target.name) : config;
  const isKnown = state.containers !== undefined;
  const data =
    intent.restore_data === true && isKnown
      ? await planDataRestore(state.releases.at(-1), running, limits, context, host)
      : { since: 'up', steps: [], undo: [], cleanup: [] };
  const changes = listReleaseChanges(release, state, [...shipment.writes.map(({ path }) => path)], shipment.removes);
  return {
    title: `rollback of ${stack} to ${intent.to ?? 'previous'}${release === UNKNOWN ? '' : ` (run ${run}, ${release.at})`}`,
    summary: state.containers === undefined ? 'Not compared: a dry run does not read the host.' : summarize(changes),
    changes,
    steps: [
      planMeasure('before', target.project),
      ...(shipment.step ? [shipment.step] : []),
      ...planKeepImages(stack, state, site),
      ...tags,
      ...(state.leftovers ? [planTidy('tidy', target, site)] : []),
      ...data.steps,
      ...prepare,
      bringUp,
      planHealthCheck(
        'wait until healthy',
        target.project,
        site,
        limits.healthy,
        reviveOptions(prepare, bringUp, state),
      ),
      ...planVerify(intent.verify, target.whole, site, { healthy: limits.healthy }),
      planMeasure('after', target.project),
      planRemember('remember the release', stack, target, site, {
        files: release.files,
        config: next.base,
        of: run,
      }),
    ],
    undo: [...data.undo, ...planUndo(undoContext, { tagsSince: tags[0]?.name ?? 'up', upSince: data.since, up })],
    cleanup: [...data.cleanup, ...planForgetImages(stack, state, site)],
    late: planLateUndo(undoContext),
    ...describeOneWay(before, intent),
  };
}

/** Returns the wanted release, after a check that all its parts exist. Throws Failure: `release-unknown`, `release-incomplete`, `image-gone`. */
async function findRelease(
  intent: RollbackIntent,
  state: StackState,
  site: HostSite,
  host: HostReader,
): Promise<Release> {
  const { stack, to = 'previous' } = intent;
  const release =
    to === 'previous' ? findPreviousRelease(state.releases) : state.releases.find(({ runs }) => runs.includes(to));
  if (!release) {
    const known = state.releases.map(({ runs, at }) => `${runs.at(-1)} (${at})`).join(', ');
    throw new Failure(
      'release-unknown',
      to === 'previous'
        ? `There is no release of ${stack} before the current one.`
        : `The run ${to} left no release of ${stack}.`,
      known === '' ? 'Roll out the stack first: a rollout records a release.' : `Choose one of: ${known}.`,
    );
  }
  for (const { service, reference, image } of release.images) {
    if ((await host.engine(`/images/${encodeURIComponent(image)}/json`)) !== null) continue;
    throw new Failure(
      'image-gone',
      `The image ${image.slice(0, 19)} of ${service} (${reference}) is not on the host any more. Nothing was changed.`,
      'Choose another release, or roll out a version that is in the registry.',
    );
  }
  const kept = (await host.list(`${stackMemoryFolder(site, stack)}/files`)) ?? [];
  const config = release.config ? [{ ...release.config, path: 'the checked config' }] : [];
  const missing = [...config, ...(release.files ?? []), ...(release.compose ?? [])].find(
    ({ sha256 }) => !kept.includes(sha256),
  );
  if (!missing) return release;
  throw new Failure(
    'release-incomplete',
    `The content of ${missing.path} in that release is not kept. Nothing was changed.`,
    'Revert the change in the repository, and roll out the result.',
  );
}

function listReleaseChanges(release: Release, state: StackState, writes: string[], removes: string[]): Change[] {
  return [
    ...writes.map((path): Change => ({ subject: path, change: 'write', details: [] })),
    ...removes.map((path): Change => ({ subject: path, change: 'remove', details: ['not part of that release'] })),
    ...release.images.map(({ service, reference, image }): Change => {
      const current = state.containers?.find(one => one.service === service);
      const details =
        current?.image === image
          ? []
          : [
              `image ${current ? `${current.reference} ${current.image.slice(7, 19)}` : 'none'} → ${reference} ${image.slice(7, 19)}`,
            ];
      return { subject: service, change: details.length === 0 ? 'none' : 'recreate', details };
    }),
  ];
}
