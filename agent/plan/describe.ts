import type { Plan, Step } from './plan.ts';
import { quoteWord } from './quote.ts';

/** One line for each kind of step, for the log, the dry run and the audit log. */
const DESCRIPTIONS = {
  start: ({ argv }) => argv.map(quoteWord).join(' '),
  write: ({ changes }) =>
    changes
      .filter(change => !change.own)
      .map(change => `${'remove' in change ? 'remove' : 'write'} ${change.path}`)
      .join(', ') || 'keep records',
  restore: ({ of }) => `restore the files that "${of}" changed`,
  tidy: step =>
    step.keep
      ? `remove the new containers (${formatServices(step)})`
      : `remove containers that were created and never started (${formatServices(step)})`,
  'await-healthy': step => `wait until ${formatServices(step)} is healthy (at most ${step.timeout / 1000} s)`,
  settle: step => `watch ${formatServices(step)} for ${step.for / 1000} s`,
  http: ({ url, status, body, ...tries }) =>
    `GET ${url}: ${status.join(' or ')}${body === undefined ? '' : `, with ${JSON.stringify(body)} in the body`} (${formatTries(tries)})`,
  tcp: ({ host, port, ...tries }) => `connect to ${host}:${port} (${formatTries(tries)})`,
  measure: step => `record images ${step.as} (${formatServices(step)})`,
  'prepare-mounts': ({ config, mounts }) =>
    `check that ${config.file} is unchanged, and ${mounts.length === 1 ? 'the source of 1 mount' : `the sources of ${mounts.length} mounts`}`,
  'check-target': ({ path, mount, needs }) =>
    `check that ${path} is the intended destination${mount ? ', mounted' : ''}, with ${formatMib(needs)} free`,
  'check-source': ({ path }) => `check that ${path} exists, is not empty and has not shrunk`,
  'compare-copy': ({ folder, copy, source }) => `compare ${folder}/${copy} with ${source} in folders that have changed`,
  seal: ({ folder, partial, as }) => `read ${folder}/${partial} back, write its manifest, rename it to ${as}`,
  'note-snapshot': ({ folder, as }) => `write the manifest of restic's snapshot: ${folder}/${as}.json`,
  tally: ({ archive, manifest }) =>
    manifest
      ? `write the manifest of ${archive} from its listing`
      : `compare the listing of ${archive} with its manifest`,
  'expect-listed': ({ argv }) => `check that ${argv.join(' ')} lists a new backup`,
  'check-backup': ({ folder, backup }) => `read ${folder}/${backup} again, and compare it with its manifest`,
  swap: ({ path, next, aside, back }) =>
    back
      ? `move ${aside} back to ${path} if it was moved, and remove ${next}`
      : `move ${path} to ${aside}, and ${next} to ${path}`,
  clear: ({ path }) => `remove ${path}`,
  'note-drill': ({ folder, backup }) =>
    `record in ${folder}/${backup}.json that it was restored, and how long that took`,
  'expect-ending': ({ path, text }) => `check that ${path} ends with "${text}"`,
  prune: ({ folder, rules, minKeep }) => {
    const kept = Object.entries(rules).map(([rule, count]) => `${rule} ${count}`);
    return kept.length === 0
      ? `remove unfinished backups older than two days from ${folder}; no backup is pruned`
      : `prune ${folder}: keep ${kept.join(', ')}, at least ${minKeep} verified`;
  },
  remember: step => `record what ${formatServices(step)} runs, for a rollback (the newest ${step.keep})`,
} satisfies { [K in Step['do']]: (step: Extract<Step, { do: K }>) => string };

/**
 * Returns true if this version can run the plan: an older agent may have stored one with other kinds of steps, or without a
 * check of mounts before each start.
 */
export function isPlanKnown({ steps, undo, cleanup, late = [] }: Plan): boolean {
  return [...steps, ...undo, ...cleanup, ...late].every(
    step =>
      Object.hasOwn(DESCRIPTIONS, step.do) &&
      (step.do !== 'await-healthy' || !step.revive || Array.isArray(step.revive.prepare)),
  );
}

/** Returns the one-line description of a step. */
export function describeStep(step: Step): string {
  // The table has the function for each step's own kind; the compiler does not follow that from `do` to the parameter.
  const describe: (step: never) => string = DESCRIPTIONS[step.do];
  return describe(step as never);
}

function formatServices({ project }: { project: { dir: string; services?: string[] } }): string {
  return `${project.services?.join(', ') ?? 'every service'} in ${project.dir}`;
}

function formatMib(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}

function formatTries({ retries, timeout }: { retries: number; timeout: number }): string {
  return `${retries + 1} ${retries === 0 ? 'try' : 'tries'} of ${timeout / 1000} s`;
}
