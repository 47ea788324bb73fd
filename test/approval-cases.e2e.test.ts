import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FAST_CLOCK } from './doubles/fast-clock.ts';
import {
  baseChanged,
  committed,
  type Entry,
  labeled,
  merged,
  type Pull,
  pullRequestEvent,
  pushEvent,
  pushed,
  unlabeled,
} from './doubles/github-events.ts';
import type { Finished, Job } from './stand/runner.ts';
import { asRebase, codeOf, rolloutOf, Staging } from './stand/staging.ts';
import { LABEL, type Merge, type World } from './stand/world.ts';

const EARLY = '2026-11-20T10:30:00Z';
const LATER = '2026-11-20T11:30:00Z';
const OLDER = 'd'.repeat(40);
const CHECKED = '✅ ok';

let staging: Staging;
let world: World;
beforeAll(async () => {
  staging = new Staging();
  ({ world } = staging);
  await world.github.start();
  await world.host.start({
    trust: [
      {
        name: 'homelab',
        key: world.host.keys.public,
        repository: 'org/homelab',
        allow: [
          { actions: ['rollout', 'backup'], stacks: ['staged*'], require_labels: [LABEL] },
          { actions: ['rollout'], stacks: ['reviewed'], min_approvals: 1 },
          { actions: ['rollout'], stacks: ['checked'], require_labels: [CHECKED] },
        ],
      },
    ],
  });
  for (const stack of ['reviewed', 'checked']) world.stack(stack);
});
afterAll(() => world[Symbol.asyncDispose]());
beforeEach(() => {
  world.github.pageSize = 100;
  world.github.timelineLag = 0;
});

/** A10, C6 and C14 are in confirm.e2e.test.ts; other cases of A, C and D are in approval.e2e.test.ts. */
type Case = [title: string, code: string, run: () => Promise<Finished>];
const expectCode = async (code: string, run: Case[2]) => {
  const job = await run();
  expect(codeOf(job), job.log).toBe(code);
};
/** Stages refusals at the same time. A run counts for other stacks of its repository while it executes, so those take turns. */
const stageAll = (cases: Case[]) => {
  it.each<Case>(cases.filter(([, code]) => code === 'admitted'))('%s gets %s', (_, ...expected) =>
    expectCode(...expected),
  );
  it.concurrent.each<Case>(cases.filter(([, code]) => code !== 'admitted'))('%s gets %s', (_, ...expected) =>
    expectCode(...expected),
  );
};
const by = (timeline: Entry[], more: Partial<Pull> = {}) => staging.run({ timeline: () => timeline, pull: more });
const fast = () => FAST_CLOCK;
const pullOf = ({ number }: Merge) => world.github.pulls.get(number) as Pull;
const closed = (merge: Merge): Partial<Job> => ({
  event: 'pull_request',
  payload: pullRequestEvent('org/homelab', pullOf(merge)),
});
const dispatched = (merge: Merge, number: number | undefined): Partial<Job> => ({
  event: 'workflow_dispatch',
  payload: pushEvent('org/homelab', merge.before, merge.sha),
  inputs: number === undefined ? {} : { 'pull-request': String(number) },
});

describe('a label and the last push (A)', () => {
  const early = labeled(LABEL, 'octocat', EARLY);
  const reviewed = (review: object) => {
    const merge = world.merge({ 'chatops/intents/reviewed.yaml': 'action: rollout\nstack: reviewed\n' });
    pullOf(merge).reviews.push({
      state: 'APPROVED',
      user: { login: 'octocat' },
      commit_id: pullOf(merge).headSha,
      ...review,
    });
    return world.deploy(merge, 'reviewed');
  };
  it.each<Case>([
    [
      'A4 pushed after the label, listed by the push',
      'label-early',
      () => staging.run({ timeline: head => [early, committed(head), merged()] }),
    ],
    [
      'A5 committed before the label and pushed an hour after it',
      'label-early',
      () => staging.run({ timeline: head => [early, merged(), committed(head, '2026-11-20T10:29:00Z')] }),
    ],
    [
      'A9 pushed after the label, dated before it, by pull_request',
      'label-early',
      () => staging.run({ timeline: head => [early, merged(), committed(head, '2026-11-20T10:00:00Z')], job: closed }),
    ],
    ['A12 with a review of its last commit', 'admitted', () => reviewed({})],
    ['A12 with a review of an earlier commit', 'approvals-missing', () => reviewed({ commit_id: OLDER })],
    ['A12 with a review that was dismissed', 'approvals-missing', () => reviewed({ state: 'DISMISSED' })],
    [
      'A15 whose timeline never lists the last commit',
      'label-unproven',
      () => {
        world.github.timelineLag = 99;
        return staging.run({ job: fast });
      },
    ],
    [
      'A15 whose timeline lists the last commit late',
      'admitted',
      () => {
        world.github.timelineLag = 2;
        return staging.run({ job: fast });
      },
    ],
  ])('%s gets %s', (_, code, run) => expectCode(code, run));
});

describe('a push of several commits (B)', () => {
  const unlabelled = () => [merged()];
  /** Pushes an unlabelled pull request with these files together with a labelled one of the intent. */
  const queue = (files: (name: string) => Record<string, string | null>, intent = (_: string) => '') => {
    const name = staging.name();
    const before = world.repository.head();
    world.merge(files(name), unlabelled);
    return staging.push(name, before, staging.merge(name, { intent: intent(name) }));
  };
  const rebase = (count: number, merge: Merge) => {
    asRebase(world, merge, count);
    return {};
  };
  /** Lets GitHub list a merge as a merge commit with a branch of several commits. */
  const branch = (count: number, merge: Merge) => {
    const commits = Array.from({ length: count }, (_, n) => `${n.toString(16).padStart(8, 'e')}${merge.sha.slice(8)}`);
    let parent = merge.before;
    for (const sha of commits) {
      world.github.commit(sha, [parent]);
      parent = sha;
    }
    world.github.commits.delete(merge.sha);
    world.github.commit(merge.sha, [merge.before, parent], `Merge pull request #${merge.number} from org/change`);
    return {};
  };
  const source = (name: string) => ({ [`stacks/${name}/a.conf`]: 'long enough to be found again\n'.repeat(5) });
  const backupOf = (name: string) => ({
    [`chatops/intents/${name}-www.yaml`]: `action: backup\nbackup_type: docker_volumes\nstack: ${name}\nsource: /srv\ndestination: /mnt\n`,
  });
  const many = (count: number) => Array.from({ length: count }, (_, n) => `media/${n}`);
  stageAll([
    ['B1 of a merge commit', 'admitted', () => staging.run({ job: merge => branch(3, merge) })],
    ['B2 of a rebase of three', 'admitted', () => staging.run({ job: merge => rebase(3, merge) })],
    [
      'B3 of a rebase without the label',
      'label-missing',
      () => staging.run({ timeline: unlabelled, job: merge => rebase(3, merge) }),
    ],
    [
      'B4 with an unlabelled change of the intent',
      'label-missing',
      () => queue(name => ({ [`chatops/intents/${name}.yaml`]: rolloutOf(name) })),
    ],
    [
      'B5 with an unlabelled change of another file',
      'admitted',
      () => queue(() => ({ 'README.md': `${Math.random()}` })),
    ],
    [
      'B6 with an unlabelled change of the source folder alone',
      'label-missing',
      () => queue(source, name => `source_dir: stacks/${name}\n`),
    ],
    [
      'B7 with an unlabelled change that moves a file out of the source folder',
      'label-missing',
      () => {
        const name = staging.name();
        world.merge({ ...source(name), [`stacks/${name}/b.conf`]: 'x' });
        const before = world.repository.head();
        world.merge(
          { [`stacks/${name}/a.conf`]: null, [`other/${name}.conf`]: 'long enough to be found again\n'.repeat(5) },
          unlabelled,
        );
        return staging.push(name, before, staging.merge(name, { intent: `source_dir: stacks/${name}\n` }));
      },
    ],
    [
      'B8 with an unlabelled change of the backup before the rollout',
      'label-missing',
      () => queue(backupOf, name => `backup_before: ${name}-www\n`),
    ],
    ['B10 of 301 files', 'admitted', () => staging.run({ pull: { files: many(301) } })],
    [
      'B11 with an unlabelled pull request of 3,001 files, the intent last',
      'label-missing',
      () => {
        const name = staging.name();
        const before = world.repository.head();
        const path = `chatops/intents/${name}.yaml`;
        world.merge({ [path]: rolloutOf(name) }, unlabelled, { files: [...many(3000), path] });
        return staging.push(name, before, staging.merge(name));
      },
    ],
    [
      'B13 of pull requests that all have the label',
      'admitted',
      () => {
        const name = staging.name();
        const before = world.repository.head();
        staging.merge(name);
        return staging.push(name, before, staging.merge(name));
      },
    ],
    [
      'B14 merged and labelled by an administrator',
      'admitted',
      () => {
        world.github.permissions.set('root', { permission: 'admin', role_name: 'admin' });
        return by([labeled(LABEL, 'root'), merged('root')]);
      },
    ],
    ['B15 merged by auto-merge', 'admitted', () => by([labeled(LABEL), merged('github-actions[bot]')])],
    ['B16 of a merge commit with 300 commits', 'admitted', () => staging.run({ job: merge => branch(300, merge) })],
    ['B17 of a rebase of 120', 'admitted', () => staging.run({ job: merge => rebase(120, merge) })],
  ]);
});

describe('a dispatch (C)', () => {
  const dispatch = (number: (merge: Merge) => number | undefined, pull: Partial<Pull> = {}) =>
    staging.run({ pull, job: merge => dispatched(merge, number(merge)) });
  stageAll([
    ['C8 without a pull request', 'approval-missing', () => dispatch(() => undefined)],
    ['C9 with the pull request that brought the intent', 'admitted', () => dispatch(({ number }) => number)],
    ['C10 with an open pull request', 'not-merged', () => dispatch(({ number }) => number, { merged: false })],
    [
      'C11 with one that was merged elsewhere',
      'not-merged',
      () => dispatch(({ number }) => number, { base: 'develop' }),
    ],
  ]);
});

describe('a label (D)', () => {
  const page = Array.from({ length: 5 }, () => labeled('size/S'));
  const paged = (run: () => Promise<Finished>) => () => {
    world.github.pageSize = 3;
    return run();
  };
  const answering = (status: number) => () => {
    const login = `alice-${status}`;
    world.github.failures.push({ path: `/collaborators/${login}/`, status, always: true });
    return staging.run({ timeline: () => [labeled(LABEL, login), merged()], job: fast });
  };
  const checked = (label: string) => () => {
    const intent = `label_required: "${CHECKED}"\naction: rollout\nstack: checked\n`;
    return world.deploy(
      world.merge({ 'chatops/intents/checked.yaml': intent }, () => [labeled(label), merged()]),
      'checked',
    );
  };
  it.each<Case>([
    [
      'D1 that was removed on a later page',
      'label-missing',
      paged(() => by([labeled(LABEL), ...page, unlabeled(LABEL), merged()])),
    ],
    [
      'D3 that was set early, on a short page',
      'label-early',
      paged(() => staging.run({ timeline: head => [labeled(LABEL), ...page, committed(head), merged()] })),
    ],
  ])('%s gets %s', (_, code, run) => expectCode(code, run));

  stageAll([
    ['D9 by an account whose permission answers 404', 'label-by-unauthorized', answering(404)],
    ['D10 by an account whose permission answers 403', 'github-unreadable', answering(403)],
    ['D11 by an account whose permission answers 500', 'github-unreadable', answering(500)],
    ['D5 by an app', 'label-by-unauthorized', () => by([labeled(LABEL, 'renovate[bot]'), merged()])],
    ['D6 by the author, who may write', 'admitted', () => by([labeled(LABEL, 'octocat'), merged('octocat')])],
    ['D8 by the ghost of an account', 'label-by-unauthorized', () => by([labeled(LABEL, 'ghost'), merged()])],
    [
      'D15 that was removed and set again',
      'admitted',
      () => by([labeled(LABEL), unlabeled(LABEL), labeled(LABEL), merged()]),
    ],
    ['D16 that was removed after the merge', 'admitted', () => by([labeled(LABEL), merged(), unlabeled(LABEL)])],
    [
      'D17 that was removed, and set again after the merge',
      'label-missing',
      () => by([labeled(LABEL), unlabeled(LABEL), merged(), labeled(LABEL)]),
    ],
    [
      'D18 that was removed and set again after the merge',
      'admitted',
      () => by([labeled(LABEL), merged(), unlabeled(LABEL), labeled(LABEL)]),
    ],
    [
      'D19 that was set again twice',
      'admitted',
      () => by([labeled(LABEL), unlabeled(LABEL), labeled(LABEL), unlabeled(LABEL), labeled(LABEL), merged()]),
    ],
    ['D20 that had another name when it was set', 'label-missing', () => by([labeled('approved-by-claude'), merged()])],
    ['D21 in other letters', 'admitted', () => by([labeled('Approved-By-Gemini'), merged()])],
    ['D23 with a newline', 'label-missing', () => by([labeled(`${LABEL}\n`), merged()])],
    ['D24 with a no-break space', 'label-missing', () => by([labeled(`${LABEL}\u00a0`), merged()])],
    ['D25 with an emoji', 'admitted', checked(CHECKED)],
    ['D26 with a variation of the emoji', 'label-missing', checked('✅\ufe0f ok')],
    ['D28 before the base changed', 'label-early', () => by([labeled(LABEL), baseChanged(), merged()])],
    [
      'D30 before "Update branch"',
      'label-early',
      () =>
        staging.run({
          timeline: head => [committed(OLDER), labeled(LABEL, 'octocat', EARLY), committed(head), merged()],
        }),
    ],
    [
      'D30 after "Update branch", set again',
      'admitted',
      () =>
        staging.run({
          timeline: head => [
            committed(OLDER),
            labeled(LABEL, 'octocat', EARLY),
            committed(head),
            unlabeled(LABEL),
            labeled(LABEL),
            merged(),
          ],
          job: merge => {
            pullOf(merge).pushes = [pushed(OLDER, '2026-11-20T10:00:00Z'), pushed(pullOf(merge).headSha, LATER)];
            return {};
          },
        }),
    ],
  ]);
});
