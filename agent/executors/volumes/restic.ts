import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, StartStep } from '../../plan/plan.ts';
import {
  findBackupGroup,
  findSource,
  listBackupChanges,
  parseTimeouts,
  planPartialCleanup,
  planPrune,
  planTargetCheck,
  summarizeGroup,
} from '../backup/group.ts';
import { openSource, openStored, storageRoot, writesTo } from '../backup/opened.ts';
import { planQuiesce } from '../backup/quiesce.ts';
import type { HostSite, PlanContext } from '../executor.ts';
import { describeEarlier, planSourceCheck, type VolumesBackupIntent } from './copy.ts';

const MINUTE = 60_000;
/** restic's answer about one snapshot. */
const MAX_ANSWER_BYTES = 16 * 2 ** 20;

/** Number of runs in which all data of the repository is read once. */
const PARTS = 7;

/** Plans a call of restic for the repository in `folder`. Throws Failure `restic-password-missing`. */
export function restic(
  name: string,
  folder: string,
  args: string[],
  site: HostSite,
  times: { timeout: number; stallTimeout: number },
  more: Partial<StartStep> = {},
): StartStep {
  if (site.backups.resticPassword === undefined) {
    throw new Failure(
      'restic-password-missing',
      'This host has no password for the repository, and restic requires one.',
      'Create a file with a password (mode 0600), keep a copy elsewhere, and set backups.restic.password_file in agent.yaml to its path.',
    );
  }
  const repository = `${folder}/repository`;
  const { opens = [], ...rest } = more;
  return {
    do: 'start',
    name,
    argv: ['restic', '--repo', repository, ...args],
    env: {
      RESTIC_PASSWORD_FILE: site.backups.resticPassword,
      RESTIC_CACHE_DIR: `${site.backups.records}/restic-cache`,
      RESTIC_PROGRESS_FPS: '1',
      HOME: '/nonexistent',
    },
    ...times,
    // restic uses fixed names in it, down to this depth.
    opens: [
      openStored(repository, storageRoot(folder, site), {
        depth: 2,
        ...(args[0] === 'init' ? { make: 0o700 } : {}),
      }),
      ...opens,
    ],
    // A killed restic leaves its lock. The step "unlock" removes locks whose process is gone.
    repeatable: true,
    failure: { code: 'restic-failed', remedy: 'Read the step’s output.' },
    reasons: [
      {
        says: 'wrong password',
        code: 'restic-password-wrong',
        remedy: 'Set backups.restic.password_file in agent.yaml to the password that this repository was created with.',
      },
      {
        says: 'already locked',
        code: 'restic-locked',
        remedy:
          'Wait for the other restic that uses this repository. If there is none on any host, run "restic unlock" with this repository.',
      },
      {
        says: 'no space left',
        code: 'destination-full',
        remedy: 'Free space at the destination, then run the intent again.',
      },
    ],
    ...rest,
  };
}

export async function planRestic(intent: VolumesBackupIntent, context: PlanContext, host: HostReader): Promise<Plan> {
  const { site, run, at } = context;
  if (intent.options?.length || intent.ownership !== undefined) {
    throw new Failure(
      'option-not-allowed',
      'restic does not know "options" and "ownership": it keeps all attributes.',
      'Remove them.',
    );
  }
  const source = await findSource(intent, site, host);
  const group = await findBackupGroup(intent, context, host);
  const { folder, root, name, last, newName: as, partial } = group;
  const services = await planQuiesce(intent, source, site, host);
  const times = parseTimeouts(intent);
  const call = (step: string, args: string[], more?: Partial<StartStep>) =>
    restic(step, folder, args, site, times, {
      failure: { code: 'restic-failed', remedy: `Read the step’s output. ${describeEarlier(group)}`.trim() },
      ...more,
    });
  const hasRepository = (await host.list(`${folder}/repository`))?.includes('config') === true;
  const part = (group.earlier.length % PARTS) + 1;
  const readsAll = intent.verify_level === 'full' || group.earlier.length === 0;
  const tag = `run:${run}`;
  const writeTo = (file: string) => ({
    ...writesTo(`${folder}/${partial}/${file}`, site),
    ...{ stdoutLimit: { size: MAX_ANSWER_BYTES }, timeout: 10 * MINUTE },
  });
  const version = (await host.ask(['restic', 'version'], { keepFor: 60 * MINUTE }))?.stdout.trim() ?? '';
  return {
    title: `backup of ${source.label} to ${folder} (restic)`,
    summary: `${summarizeGroup(group)} ${services.note}`.trim(),
    changes: listBackupChanges(group, intent, at),
    steps: [
      planTargetCheck(group, (last?.bytes ?? 0) * 0.1, `/${partial}`),
      planSourceCheck(source, site, group, intent),
      ...(hasRepository ? [call('unlock', ['unlock'])] : [call('init', ['init'])]),
      ...services.quiesce,
      call(
        'copy',
        [
          'backup',
          ...['--host', 'chatops', '--tag', `intent:${name}`, '--tag', tag, '--one-file-system'],
          ...(intent.exclude ?? []).map(pattern => `--exclude=${escapeExclude(pattern)}`),
          ...['--', '.'],
        ],
        // Started in the folder: the snapshot holds its content without its path.
        { cwd: source.path, opens: [openSource(source)] },
      ),
      ...services.resume,
      call('check', ['check', ...(readsAll ? ['--read-data'] : [`--read-data-subset=${part}/${PARTS}`])], {
        failure: {
          code: 'backup-broken',
          remedy:
            'The repository is damaged. See "restic check" in restic’s documentation, and create a new one next to it.',
        },
      }),
      call('ask for the snapshot', ['snapshots', '--json', '--tag', tag], writeTo('snapshots.json')),
      call('ask for its size', ['stats', '--json', '--tag', tag], writeTo('stats.json')),
      {
        do: 'note-snapshot',
        name: 'write the manifest',
        ...{ folder, root, partial, as },
        manifest: {
          kind: 'docker_volumes',
          ...{ name, run, at, source: source.label },
          checks: [readsAll ? 'restic check, all data read' : `restic check, ${part}/${PARTS} of the data read`],
          versions: { restic: version },
          ...(intent.notes === undefined ? {} : { notes: intent.notes }),
        },
      },
      {
        ...planPrune(group, intent),
        forget: {
          step: call('forget', ['forget', '--prune'], {
            okCodes: [0, 1],
            failure: { code: 'restic-failed', remedy: 'Read the step’s output. The new backup is there.' },
          }),
          each: ['{snapshot}'],
          last: [],
        },
      },
    ],
    undo: [],
    cleanup: [...services.cleanup, planPartialCleanup(group, 'check the destination')],
  };
}

/** Checks a pattern: restic reads a leading `!` as "include again". Throws Failure `exclude-not-allowed`. */
function escapeExclude(pattern: string): string {
  if (!pattern.startsWith('!') && ![...pattern].some(char => char < ' ' || char === '\u007f')) return pattern;
  throw new Failure(
    'exclude-not-allowed',
    `The pattern ${JSON.stringify(pattern)} begins with "!" or holds a control character.`,
    'Remove it.',
  );
}
