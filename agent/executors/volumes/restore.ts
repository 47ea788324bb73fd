import { CannotPlan, type Look, type Plan, type Step } from '../../plan.ts';
import { DEFAULT_STALL, DEFAULT_TIMEOUT, type Earlier, findEarlier, findSource, stampOf, under } from '../backups.ts';
import { type Claim, type Context, type Intent, parseDuration, type Site } from '../executor.ts';
import { healthStep, verifySteps } from '../verify.ts';
import { holdStill } from './source.ts';

export type VolumesRestore = Extract<Intent, { action: 'restore' }>;

const HEALTHY = 5 * 60_000;

export function claimsOfRestore(intent: VolumesRestore, site: Site): Claim[] {
  const { from, to } = intent;
  return [
    {
      path: from,
      root: under(
        from,
        site.backups.destinations.map(({ path }) => path),
      ),
    },
    ...(to === undefined ? [] : [{ path: to, root: under(to, site.backups.sources) }]),
  ];
}

/**
 * The backup is read again, copied beside what is to be restored, and takes its place; what was there is kept beside. Throws
 * CannotPlan: `backup-unknown`, `overwrite-unconfirmed`, `container-missing`, `container-path-unknown`.
 */
export async function planRestore(intent: VolumesRestore, context: Context, look: Look): Promise<Plan> {
  const { site, run, at } = context;
  const folder = `${intent.from.replace(/\/+$/, '')}/${intent.of}`;
  const backup = await findBackup(intent, folder, look);
  const { path, told, container } = await findSource(
    { source: intent.to, source_container: intent.to_container, source_path: intent.to_path },
    look,
  );
  const there = await look.list(path);
  if (there && there.length > 0 && intent.confirm_overwrite !== true) {
    throw new CannotPlan(
      'overwrite-unconfirmed',
      `${told} holds something. Nothing was changed.`,
      'Say confirm_overwrite: true in the intent (what is there is kept beside), or restore to another folder.',
    );
  }
  const next = `${path}.restoring-${run}`;
  const aside = `${path}.before-${stampOf(at)}`;
  const still = await holdStill(
    { stack: intent.stack, stop_services: intent.stop_services, consistency: 'stop' },
    { path, told, ...(container === undefined ? {} : { container }) },
    site,
    look,
  );
  const project = { dir: `${site.stacksRoot}/${intent.stack}` };
  const checks = (again: boolean): Step[] => [
    ...(intent.stop_services && still.release.length > 0
      ? [
          healthStep(
            `wait until healthy${again ? ' again' : ''}`,
            { ...project, services: intent.stop_services },
            HEALTHY,
          ),
        ]
      : []),
    ...(intent.stack === undefined
      ? []
      : verifySteps(intent.verify, project, { allow: site.verify, healthy: HEALTHY, again })),
  ];
  const swap = { path, next, aside, roots: site.backups.sources };
  const undo: Step[] = [
    ...still.hold.map(step => ({ ...step, name: `${step.name} again` })),
    { do: 'swap', name: 'swap back', ...swap, back: true },
    ...still.release.map(step => ({ ...step, name: `${step.name} again` })),
    ...checks(true),
  ];
  return {
    title: `restore of ${intent.of} (${backup.name}) to ${told}`,
    summary: `${backup.files} files of ${backup.at}${there && there.length > 0 ? `; what is there now is kept as ${aside}` : ''}.`,
    changes: [{ subject: told, change: 'write', details: [backup.name] }],
    steps: [
      { do: 'check-backup', name: 'check the backup', folder, backup: backup.name },
      {
        do: 'start',
        name: 'copy',
        argv: [
          'rsync',
          ...['--archive', '--hard-links', '--numeric-ids', '--stats', '--info=progress2,name0', '--outbuf=L'],
          '--',
          `${folder}/${backup.name}/`,
          `${next}/`,
        ],
        env: { HOME: '/nonexistent', LC_ALL: 'C.UTF-8', TZ: 'UTC' },
        timeout: intent.timeout === undefined ? DEFAULT_TIMEOUT : parseDuration(intent.timeout),
        stallTimeout: intent.stall_timeout === undefined ? DEFAULT_STALL : parseDuration(intent.stall_timeout),
        repeatable: true,
        failure: {
          code: 'copy-failed',
          remedy: `Read the step’s output. ${told} is as it was; remove ${next}.`,
        },
      },
      ...still.hold,
      { do: 'swap', name: 'swap', ...swap },
      ...still.release,
      ...checks(false),
    ],
    undo: intent.on_failure === 'stop' ? [] : undo.map(step => ({ ...step, ifBegan: 'swap' })),
    cleanup: [
      { do: 'swap', name: 'clear away', ...swap, back: true, ifBegan: 'copy', unlessBegan: 'swap' },
      ...still.cleanup.map(step => ({ ...step, unlessBegan: still.release[0]?.name ?? '' })),
    ],
  };
}

/** Throws CannotPlan `backup-unknown`. */
async function findBackup({ of, at = 'latest' }: VolumesRestore, folder: string, look: Look): Promise<Earlier> {
  if ((await look.list(folder)) === undefined) return { name: `(${at})`, run: '', at, bytes: 0, files: 0 };
  const all = await findEarlier(folder, look);
  const found = at === 'latest' ? all.at(-1) : all.findLast(({ name, run }) => name === at || run === at);
  if (found) return found;
  throw new CannotPlan(
    'backup-unknown',
    `${folder} holds no backup of "${of}"${at === 'latest' ? '' : ` named ${at}`}.`,
    all.length === 0 ? 'Correct "from" and "of".' : `There are: ${all.map(({ name }) => name).join(', ')}.`,
  );
}
