import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  baseChanged,
  committed,
  type Entry,
  labeled,
  merged,
  type Pull,
  pushEvent,
  pushed,
  unlabeled,
} from './doubles/github-events.ts';
import { freePort } from './stand/host.ts';
import { readPage } from './stand/page.ts';
import { type Finished, type Job, runJob, startJob } from './stand/runner.ts';
import { asRebase, rolloutOf } from './stand/staging.ts';
import { LABEL, type Merge, untilLog, World } from './stand/world.ts';

const EARLY = '2026-11-20T10:30:00Z';
const OLDER = 'd'.repeat(40);
const BOT = 'renovate[bot]';

let world: World;
let port: number;
beforeAll(async () => {
  world = await new World().start();
  world.stack('web');
  port = await freePort();
});
afterAll(() => world[Symbol.asyncDispose]());

/** A pull request of the diary. */
interface Merging {
  /** The version of the page that it brings. */
  page?: string;
  files?: Record<string, string>;
  timeline?: (head: string) => Entry[];
  pull?: Partial<Pull>;
  /** Changes what GitHub knows after the merge. */
  amend?: (merge: Merge, pull: Pull) => void;
}
/** An entry of the diary: the pull requests of one push, or a job without a new one, and its expected result. */
type Day = 'Mon' | 'Tue' | 'Wed' | 'Thu' | 'Fri';
type Row = [day: Day, title: string, event: Merging[] | (() => Promise<Finished>), result: string, serves: string];

const merges: Merge[] = [];
const nth = (number: number) => merges[number - 1] as Merge;
/** The page is in a folder that the container serves, so that a rollout need not restart it. */
const compose = () => `services:
  web:
    image: chatops-test/web:1
    pull_policy: never
    init: true
    stop_grace_period: 0s
    ports: ["127.0.0.1:${port}:80"]
    volumes: ["./www:/www:ro"]
`;
const page = (version: string, more: Omit<Merging, 'page'> = {}): Merging => ({ page: version, ...more });
const never = () => [merged()];
const early = (head: string) => [labeled(LABEL, 'octocat', EARLY), committed(head), merged()];
const late = () => [merged(), labeled(LABEL)];
const twice = () => [labeled(LABEL), unlabeled(LABEL), labeled(LABEL), merged()];
const byBot = () => [labeled(LABEL, BOT), merged(BOT)];
const autoMerged = () => [labeled(LABEL), merged(BOT)];
const readme = (text: string, more: Merging = {}): Merging => ({ files: { 'README.md': `${text}\n` }, ...more });

function merge({ page: version, files = {}, timeline, pull, amend }: Merging): Merge {
  const made = world.merge(
    { ...(version === undefined ? {} : { 'stacks/web/www/index.html': `${version}\n` }), ...files },
    timeline,
    pull,
  );
  merges.push(made);
  amend?.(made, world.github.pulls.get(made.number) as Pull);
  return made;
}
const deploy = (of: Merge, changes: Partial<Job> = {}) => runJob(world.job(of, 'web', changes));
const served = () => readPage(port);

/** Runs the job of a merge on a runner that dies when the host has accepted the run, which continues there. */
async function dieWhile(of: Merge, version: string): Promise<Finished> {
  const job = startJob(world.job(of, 'web'));
  await untilLog(job, '] run ');
  job.child.kill('SIGKILL');
  const finished = await job.finished;
  await expect.poll(served).toBe(version);
  return finished;
}
const dispatch = (number: number) => {
  const { before, sha } = merges.at(-1) as Merge;
  const payload = pushEvent('org/homelab', before, sha);
  return deploy(merges.at(-1) as Merge, {
    event: 'workflow_dispatch',
    payload,
    inputs: { 'pull-request': `${number}` },
  });
};
const resultOf = ({ outputs, signal }: Finished) =>
  outputs.status === 'succeeded' ? 'deployed' : signal === null ? (outputs.reason ?? '') : 'runner died';

const review = ({ reviews, headSha }: Pull) =>
  reviews.push({ state: 'APPROVED', user: { login: 'octocat' }, commit_id: headSha });
const first = (): Merging => ({
  page: '1',
  files: {
    'chatops/intents/web.yaml': rolloutOf('web', 'source_dir: stacks/web\n'),
    'stacks/web/compose.yaml': compose(),
  },
});
const updated = (head: string) => [
  committed(OLDER),
  labeled(LABEL, 'octocat', EARLY),
  committed(head),
  unlabeled(LABEL),
  labeled(LABEL),
  merged(),
];

const week: () => Row[] = () => [
  ['Mon', 'the stack begins', [first()], 'deployed', '1'],
  ['Mon', 'the bot updates, merged by auto-merge', [page('2', { timeline: autoMerged })], 'deployed', '2'],
  ['Mon', 'a text without a label', [readme('two', { timeline: never })], 'label-missing', '2'],
  ['Mon', 'the bot updates, merged without a label', [page('3', { timeline: never })], 'label-missing', '2'],
  ['Mon', 'a labelled text, while #4 waits', [readme('three')], 'label-missing', '2'],
  ['Mon', 'a revert of #4', [page('2')], 'deployed', '2'],
  ['Mon', 'the bot updates again, labelled', [page('3')], 'deployed', '3'],
  ['Mon', 'a rebase of three commits', [page('4', { amend: made => asRebase(world, made, 3) })], 'deployed', '4'],
  ['Tue', 'a push after the label', [page('5', { timeline: early })], 'label-early', '4'],
  ['Tue', 'a revert of #9', [page('4')], 'deployed', '4'],
  ['Tue', 'the same change, the label set again', [page('5', { timeline: twice })], 'deployed', '5'],
  ['Tue', 'the bot labels its own update', [page('6', { timeline: byBot })], 'label-by-unauthorized', '5'],
  ['Tue', 'a revert of #12', [page('5')], 'deployed', '5'],
  ['Tue', 'a label after the merge', [page('6', { timeline: late })], 'label-missing', '5'],
  ['Tue', 'the job of #14 again, now that it has the label', () => deploy(nth(14)), 'label-missing', '5'],
  ['Tue', 'a revert of #14', [page('5')], 'deployed', '5'],
  ['Wed', 'a queue of three, all labelled', [page('6'), page('7'), page('8')], 'deployed', '8'],
  [
    'Wed',
    'a queue of a text without a label and an update',
    [readme('four', { timeline: never }), page('9')],
    'deployed',
    '9',
  ],
  [
    'Wed',
    'a queue of an update without a label and a text',
    [page('10', { timeline: never }), readme('five')],
    'label-missing',
    '9',
  ],
  ['Wed', 'a revert of #21', [page('9')], 'deployed', '9'],
  ['Wed', 'a fork’s change, labelled', [page('10', { pull: { from: 'friend/homelab' } })], 'deployed', '10'],
  ['Wed', 'the change of a fork that is gone', [page('11', { pull: { from: null } })], 'label-unproven', '10'],
  ['Wed', 'a revert of #25', [page('10')], 'deployed', '10'],
  [
    'Thu',
    'the same with a review of its last commit',
    [page('11', { pull: { from: null }, amend: (_, pull) => review(pull) })],
    'deployed',
    '11',
  ],
  [
    'Thu',
    'a push after the label, dated before it',
    [
      page('12', {
        timeline: head => [labeled(LABEL, 'octocat', EARLY), merged(), committed(head, '2026-11-20T10:00:00Z')],
      }),
    ],
    'label-early',
    '11',
  ],
  ['Thu', 'a revert of #28', [page('11')], 'deployed', '11'],
  [
    'Thu',
    'another base after the label',
    [page('12', { timeline: () => [labeled(LABEL), baseChanged(), merged()] })],
    'label-early',
    '11',
  ],
  ['Thu', 'a revert of #30', [page('11')], 'deployed', '11'],
  [
    'Thu',
    '"Update branch", then the label again',
    [page('12', { timeline: updated, amend: (_, pull) => pull.pushes.unshift(pushed(OLDER, '2026-11-20T10:00:00Z')) })],
    'deployed',
    '12',
  ],
  ['Thu', 'a runner that dies while it deploys', () => dieWhile(merge(page('13')), '13'), 'runner died', '13'],
  ['Thu', 'the next update', [page('14')], 'deployed', '14'],
  ['Fri', 'Monday’s job of #2 again', () => deploy(nth(2)), 'older-than-deployed', '14'],
  ['Fri', 'the job that died, again', () => deploy(nth(33)), 'older-than-deployed', '14'],
  ['Fri', 'the newest job again', () => deploy(nth(34)), 'deployed', '14'],
  ['Fri', 'by hand, with the pull request of the newest change', () => dispatch(34), 'deployed', '14'],
  ['Fri', 'by hand, with a pull request of a text', () => dispatch(5), 'pull-request-unrelated', '14'],
  [
    'Fri',
    'a longer time limit in the intent',
    [{ files: { 'chatops/intents/web.yaml': rolloutOf('web', 'source_dir: stacks/web\ntimeout: 5m\n') } }],
    'deployed',
    '14',
  ],
  [
    'Fri',
    'a note next to the stack, without a label',
    [{ files: { 'stacks/web/notes.md': 'x\n' }, timeline: never }],
    'label-missing',
    '14',
  ],
  ['Fri', 'the bot updates while #36 waits', [page('15', { timeline: autoMerged })], 'label-missing', '14'],
  ['Fri', 'the note is removed, with a label', [{ files: { 'stacks/web/notes.md': null as never } }], 'deployed', '15'],
  ['Fri', 'a text with a label', [readme('six')], 'deployed', '15'],
  ['Fri', 'the last update of the week', [page('16')], 'deployed', '16'],
];

/** On a failure the diary names what each pull request deployed, and why. */
it('a week of a homelab repository deploys what was approved, in order, and nothing else', {
  timeout: 180_000,
}, async () => {
  const rows = week();
  const diary: string[] = [];
  const seen: [string, string, string][] = [];
  for (const [day, title, event] of rows) {
    const known = merges.length;
    let job: Finished;
    if (typeof event === 'function') job = await event();
    else {
      const before = world.repository.head();
      job = await deploy({ ...(event.map(merge).at(-1) as Merge), before });
    }
    const numbers = merges.slice(known).map(({ number }) => `#${number}`);
    const result = resultOf(job);
    const page = await served();
    seen.push([title, result, page]);
    diary.push(
      [
        day,
        numbers.join(' '),
        `${title}: ${result}, serves ${page}.`,
        job.outputs.result && JSON.parse(job.outputs.result).message,
      ]
        .filter(Boolean)
        .join(' '),
    );
  }
  expect(seen, diary.join('\n')).toEqual(rows.map(([, title, , result, serves]) => [title, result, serves]));
  expect(merges).toHaveLength(40);
});
