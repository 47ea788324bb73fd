import type { Step } from './plan.ts';

/** One line for people: the log's, the dry run's and the audit's. */
export function describeStep(step: Step): string {
  switch (step.do) {
    case 'start':
      return step.argv
        .map(word => (/^[\w@%+=:,./*-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
        .join(' ');
    case 'write': {
      const told = step.changes.filter(change => !change.own);
      return (
        told.map(change => `${'remove' in change ? 'remove' : 'write'} ${change.path}`).join(', ') || 'keep records'
      );
    }
    case 'restore':
      return `put back the files that "${step.of}" changed`;
    case 'tidy':
      return step.keep
        ? `remove the containers that are new (${whoIn(step)})`
        : `remove containers that were left half made (${whoIn(step)})`;
    case 'await-healthy':
      return `wait until ${whoIn(step)} is healthy (at most ${step.timeout / 1000} s)`;
    case 'settle':
      return `watch ${whoIn(step)} for ${step.for / 1000} s`;
    case 'http':
      return `GET ${step.url}: ${step.status.join(' or ')}${step.body === undefined ? '' : `, holding ${JSON.stringify(step.body)}`} (${tries(step)})`;
    case 'tcp':
      return `connect to ${step.host}:${step.port} (${tries(step)})`;
    case 'measure':
      return `record images ${step.as} (${whoIn(step)})`;
    case 'check-target':
      return `check that ${step.path} is the place that is meant${step.mount ? ', mounted' : ''}, with ${megabytes(step.needs)} free`;
    case 'check-source':
      return `check that ${step.path} is there, not empty and has not shrunk`;
    case 'seal':
      return `read ${step.folder}/${step.partial} back, write its manifest, name it ${step.as}`;
    case 'note-snapshot':
      return `write the manifest of restic's snapshot: ${step.folder}/${step.as}.json`;
    case 'tally':
      return step.manifest
        ? `write the manifest of ${step.archive} from what was listed there`
        : `compare what was listed of ${step.archive} with its manifest`;
    case 'expect-listed':
      return `see that ${step.argv.join(' ')} lists a new backup`;
    case 'check-backup':
      return `read ${step.folder}/${step.backup} again, and compare it with its manifest`;
    case 'swap':
      return step.back
        ? `put ${step.aside} back in the place of ${step.path} where it was taken, and remove ${step.next}`
        : `put ${step.next} in the place of ${step.path}, and keep that as ${step.aside}`;
    case 'clear':
      return `remove ${step.path}`;
    case 'note-drill':
      return `note in ${step.folder}/${step.backup}.json that it has been restored, and how long that took`;
    case 'expect-ending':
      return `see that ${step.path} ends in "${step.text}"`;
    case 'prune': {
      const rules = Object.entries(step.rules).map(([rule, count]) => `${rule} ${count}`);
      return rules.length === 0
        ? `remove what was left unfinished in ${step.folder} for two days; no backup is pruned`
        : `prune ${step.folder}: keep ${rules.join(', ')}, at least ${step.minKeep} verified`;
    }
    case 'judge-config':
      return `${step.argv.join(' ')}, and judge it by the host's rules`;
    case 'remember':
      return `remember what ${whoIn(step)} runs, for a rollback (the newest ${step.keep})`;
  }
}

function whoIn({ project }: { project: { dir: string; services?: string[] } }): string {
  return `${project.services?.join(', ') ?? 'every service'} in ${project.dir}`;
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}

function tries({ retries, timeout }: { retries: number; timeout: number }): string {
  return `${retries + 1} ${retries === 0 ? 'try' : 'tries'} of ${timeout / 1000} s`;
}
