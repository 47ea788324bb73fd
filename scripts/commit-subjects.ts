import { execFileSync } from 'node:child_process';
import { pathToFileURL } from 'node:url';

interface Commit {
  id: string;
  subject: string;
  body: string;
}

const LIMIT = 72;
const TYPES = ['feat', 'fix', 'refactor', 'perf', 'docs', 'test', 'build', 'ci', 'chore', 'style', 'revert'];
const NEED_A_BODY = ['feat', 'fix', 'refactor', 'perf'];
const SUBJECT = new RegExp(`^(${TYPES.join('|')})(\\([a-z0-9./-]+\\))?!?: \\S`);
const TRAILER = /^(signed-off-by|co-authored-by|reviewed-by|refs|closes|fixes)\b/i;

/** Returns what is wrong with a commit message, each with its remedy. */
export function messageProblems({ subject, body }: Omit<Commit, 'id'>): string[] {
  const problems: string[] = [];
  const length = [...subject].length;
  const [, type = ''] = SUBJECT.exec(subject) ?? [];
  const reason = body.split('\n').filter(line => line.trim() !== '' && !TRAILER.test(line.trim()));
  if (length > LIMIT)
    problems.push(
      `The subject has ${length} characters, the limit is ${LIMIT}. Shorten it, and move details to the body.`,
    );
  if (type === '')
    problems.push(`The subject has no known type. Begin it with "TYPE: " or "TYPE(ROOM): ": ${TYPES.join(', ')}.`);
  if (subject.includes(';'))
    problems.push('The subject joins two changes with ";". Make two commits, or name the one change.');
  if (NEED_A_BODY.includes(type) && reason.length === 0)
    problems.push(`A ${type} has no body. Say why, after an empty line below the subject.`);
  return problems;
}

const git = (...args: string[]): string =>
  execFileSync('git', args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024, stdio: ['ignore', 'pipe', 'pipe'] });

/** Reads the commits after `base` up to `head`, without merges. A branch that is new on GitHub has a base of zeros. */
function commits(base: string, head: string): Commit[] {
  const range = /^0+$/.test(base) ? ['--max-count=1', head] : [`${base}..${head}`];
  const log = git('log', '--no-merges', '--format=%h%x00%s%x00%b%x1e', ...range);
  return log
    .split('\x1e')
    .map(record => record.trimStart().split('\0'))
    .filter(([id]) => id)
    .map(([id = '', subject = '', body = '']) => ({ id, subject, body }));
}

function main(base: string | undefined, head = 'HEAD'): number {
  if (!base) {
    console.error('No base is given. Usage: node scripts/commit-subjects.ts BASE [HEAD]');
    return 2;
  }
  let found: Commit[];
  try {
    found = commits(base, head);
  } catch {
    console.error(
      `This clone does not hold ${base}..${head}. Fetch the whole history (git fetch --unshallow), or name another base.`,
    );
    return 2;
  }
  const bad = found.filter(commit => messageProblems(commit).length > 0);
  for (const commit of bad) {
    console.log(`${commit.id} ${commit.subject}`);
    for (const problem of messageProblems(commit)) console.log(`    ${problem}`);
  }
  console.log(`${found.length} commits, ${bad.length} to reword`);
  if (bad.length > 0) console.log(`Reword them: git rebase --interactive ${base}`);
  return bad.length > 0 ? 1 : 0;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href)
  process.exitCode = main(...(process.argv.slice(2) as [string?, string?]));
