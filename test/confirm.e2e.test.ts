import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Deployment } from '../protocol/command.ts';
import { committed, labeled, merged } from './doubles/github-events.ts';
import { Client, command } from './stand/signer.ts';
import { LABEL, type Merge, World } from './stand/world.ts';

const STACK = 'services: {web: {image: "chatops-test/web:1", pull_policy: never, init: true, stop_grace_period: 0s}}\n';
const INTENT = `label_required: ${LABEL}\naction: rollout\nstack: confirmed\nsource_dir: stacks/confirmed\n`;

let world: World;
let merge: Merge;
beforeAll(async () => {
  world = new World();
  await world.github.start();
  const token = join(world.dir, 'token');
  writeFileSync(token, 'github_pat_read_only\n', { mode: 0o600 });
  await world.host.start({
    github: { api_url: world.github.url, token_file: token },
    trust: [
      {
        name: 'homelab',
        key: world.host.keys.public,
        repository: 'org/homelab',
        confirm_with_github: true,
        allow: [
          { actions: ['rollout'], stacks: ['*'], require_labels: [LABEL], without_approval: ['workflow_dispatch'] },
        ],
      },
    ],
  });
  world.stack('confirmed');
  merge = world.merge({
    'chatops/intents/up.yaml': INTENT,
    'stacks/confirmed/compose.yaml': STACK,
    'stacks/confirmed/notes/read.me': 'hello\n',
  });
});
afterAll(() => world[Symbol.asyncDispose]());
const run = (changes: object = {}) => ({
  id: 42,
  event: 'push',
  status: 'in_progress',
  head_sha: merge.sha,
  head_branch: 'main',
  run_attempt: 1,
  repository: { id: 7001 },
  ...changes,
});
beforeEach(() => {
  world.github.runs.set('42', run());
  world.github.permissions.set('octocat', { permission: 'write', role_name: 'write' });
});

const shipped = (path: string, text: string) => ({
  stack: 'confirmed',
  path,
  mode: 0o644 as const,
  sha256: createHash('sha256').update(text).digest('hex'),
  content: Buffer.from(text).toString('base64'),
});

interface Answer {
  answer: string;
  message: string;
}

/** Sends the action's command with changes, as the holder of the signing key can. */
async function ask(changes: (sent: Deployment) => Partial<Deployment> = () => ({})): Promise<Answer> {
  const client = new Client(world.host.url);
  const sent = command(
    [{ action: 'rollout', stack: 'confirmed', source_dir: 'stacks/confirmed', label_required: LABEL }],
    {
      files: [shipped('compose.yaml', STACK), shipped('notes/read.me', 'hello\n')],
      approval: {
        pull_request: merge.number,
        head_sha: merge.sha.replace(/^./, 'f'),
        merge_sha: merge.sha,
        merged_by: 'octocat',
        labels: [{ name: LABEL, by: 'octocat', permission: 'write', at: '', after_last_push: true }],
      },
    },
  );
  sent.origin = { ...sent.origin, sha: merge.sha, run_id: '42' };
  sent.intents = sent.intents.map(entry => ({ ...entry, name: 'up' }));
  await client.send({ ...sent, ...changes(sent) }, world.host.keys.secret);
  const answer = await client.answer();
  if (answer === 'accepted') await client.receipt();
  const message = String(client.frames.find(({ type }) => type === 'refusal')?.message ?? '');
  await client.end();
  return { answer, message };
}

describe('an agent that asks GitHub itself', () => {
  const claimOf = (one: Merge) => (sent: Deployment) => ({
    origin: { ...sent.origin, sha: one.sha },
    approval: {
      ...sent.approval,
      ...{ pull_request: one.number, merge_sha: one.sha, head_sha: one.sha.replace(/^./, 'f') },
    } as Deployment['approval'],
  });

  /** Removes merges from the repository. */
  const forget = (...merges: Merge[]) => {
    for (const { sha } of merges) world.github.commits.delete(sha);
    world.repository.git('reset', '--quiet', '--hard', merge.sha);
  };

  it('refuses a first deployment by a labelled pull request of something else', async () => {
    const readme = world.merge({ 'README.md': 'two\n' });
    world.github.runs.set('42', run({ head_sha: readme.sha }));
    expect(await ask(claimOf(readme))).toEqual({
      answer: 'not-confirmed',
      message: expect.stringContaining('no pull request of the command changes what the intents depend on'),
    });
    forget(readme);
  });

  it('refuses a first deployment of a push of which the command names only the labelled pull request', async () => {
    const before = world.repository.head();
    const unlabelled = world.merge({ 'stacks/confirmed/more': 'x' }, head => [committed(head), merged()]);
    const labelled = world.merge({ 'stacks/confirmed/more': 'y' });
    world.github.pushedFrom.set(labelled.sha, before);
    world.github.runs.set('42', run({ head_sha: labelled.sha }));
    const send = (sent: Deployment) => ({ ...claimOf(labelled)(sent), files: [...sent.files, shipped('more', 'y')] });
    expect(await ask(send)).toEqual({
      answer: 'label-missing',
      message: expect.stringContaining(`Pull request #${unlabelled.number} did not have the label`),
    });
    forget(unlabelled, labelled);
  });

  it('counts a change of the hosts file as one of the intents only if the commit has that file with the key of the agent', async () => {
    const hosts = (key: string) => `whitebox: {agent: "${world.host.url}", key: "${key}"}\n`;
    const other = world.merge({ 'hosts.yaml': hosts(world.host.keys.public) });
    world.github.runs.set('42', run({ head_sha: other.sha }));
    const send = (one: Merge, hosts_file: string) => ask(sent => ({ ...claimOf(one)(sent), hosts_file }));
    for (const path of ['hosts.yaml', 'README.md', 'missing.yaml'])
      expect(await send(other, path)).toEqual({
        answer: 'not-confirmed',
        message: expect.stringContaining(`"${path}" is not a hosts file of the commit with the key of this agent`),
      });
    const own = world.merge({ 'hosts.yaml': hosts(world.host.agentKey) }, head => [committed(head), merged()]);
    world.github.runs.set('42', run({ head_sha: own.sha }));
    expect((await send(own, 'hosts.yaml')).answer).toBe('label-missing');
    forget(other, own);
  });

  it('accepts the command that the action sends', async () => {
    const job = await world.deploy(merge, 'up');
    expect(job.outputs.status, job.log).toBe('succeeded');
    expect(await ask()).toEqual({ answer: 'accepted', message: '' });
  });

  const origin = (changes: object) => (sent: Deployment) => ({ origin: { ...sent.origin, ...changes } });
  const approval = (changes: object) => (sent: Deployment) =>
    ({ approval: { ...sent.approval, ...changes } }) as Partial<Deployment>;
  it.each<[string, (sent: Deployment) => Partial<Deployment>, RegExp]>([
    ['a workflow run that does not exist', origin({ run_id: '43' }), /the workflow run 43 does not exist/],
    ['another attempt', origin({ run_attempt: '2' }), /attempt 1/],
    ['another event', origin({ event: 'workflow_dispatch' }), /event of the workflow run is push/],
    ['a commit that is not the run’s', origin({ sha: 'a'.repeat(40) }), /another commit/],
    [
      'a changed file',
      sent => ({
        files: sent.files.map(file => ({
          ...file,
          content: Buffer.from('evil').toString('base64'),
          sha256: createHash('sha256').update('evil').digest('hex'),
        })),
      }),
      /"compose\.yaml" differs from the commit/,
    ],
    [
      'a file that became executable',
      sent => ({ files: sent.files.map(file => ({ ...file, mode: 0o755 as const })) }),
      /differs from the commit/,
    ],
    [
      'a missing file',
      sent => ({ files: sent.files.slice(0, 1) }),
      /"confirmed\/notes\/read\.me" of the commit is not shipped/,
    ],
    [
      'another intent',
      sent => ({
        intents: sent.intents.map(entry => ({ ...entry, intent: { ...entry.intent, timeout: '9m' } as never })),
      }),
      /no file of the commit yields the intent "up"/,
    ],
    [
      'an intent that no file contains',
      sent => ({ intents: sent.intents.map(entry => ({ ...entry, name: 'made-up' })) }),
      /"made-up"/,
    ],
    [
      'a finished document that the file does not contain',
      () => ({
        given: [
          { place: 0, name: 'up', document: 2, outcome: 'succeeded', intent: { action: 'backup' as const, id: 'db' } },
        ],
      }),
      /no file of the commit yields the intent "up"/,
    ],
    ['another pull request', approval({ pull_request: 99 }), /#99 is not merged/],
    ['another merge commit', approval({ merge_sha: 'b'.repeat(40) }), /merged as another commit/],
  ])('refuses %s, even with a valid signature', async (_, changes, expected) => {
    const { answer, message } = await ask(changes);
    expect({ answer, messageMatches: expected.test(message) }, message).toEqual({
      answer: 'not-confirmed',
      messageMatches: true,
    });
  });

  it.each<[string, object, RegExp]>([
    ['has finished', { status: 'completed' }, /is completed/],
    ['belongs to another repository', { repository: { id: 1 } }, /another repository/],
  ])('refuses a command if its workflow run %s', async (_, changes, expected) => {
    world.github.runs.set('42', run(changes));
    const { answer, message } = await ask();
    expect({ answer, messageMatches: expected.test(message) }, message).toEqual({
      answer: 'not-confirmed',
      messageMatches: true,
    });
  });

  it('checks the labels that GitHub has, not those that the command claims', async () => {
    const bare = world.merge({ 'stacks/other': 'x' }, head => [committed(head), merged()]);
    world.github.runs.set('42', run({ head_sha: bare.sha }));
    const claim = (sent: Deployment) => ({
      origin: { ...sent.origin, sha: bare.sha },
      approval: {
        ...sent.approval,
        pull_request: bare.number,
        merge_sha: bare.sha,
        head_sha: bare.sha.replace(/^./, 'f'),
      },
    });
    expect((await ask(claim as never)).answer).toBe('label-missing');
    // A label of an earlier pull request does not count for this commit.
    const early = (sent: Deployment) => ({ origin: { ...sent.origin, sha: bare.sha } });
    expect(await ask(early)).toEqual({
      answer: 'not-confirmed',
      message: expect.stringContaining('none of the pull requests contains this commit'),
    });
    world.github.permissions.set('octocat', { permission: 'read', role_name: 'triage' });
    world.github.runs.set('42', run());
    expect((await ask()).answer).toBe('label-by-unauthorized');
  });

  it('refuses a label that is older than the last push, whatever the date of the commit says', async () => {
    const late = world.merge({ 'stacks/other': 'y' }, head => [
      labeled(LABEL, 'octocat', '2026-11-20T10:30:00Z'),
      committed(head, '2026-11-20T10:00:00Z'),
      merged(),
    ]);
    world.github.runs.set('42', run({ head_sha: late.sha }));
    const claim = (sent: Deployment) => ({
      origin: { ...sent.origin, sha: late.sha },
      approval: { ...sent.approval, pull_request: late.number, merge_sha: late.sha },
    });
    expect(await ask(claim as never)).toEqual({
      answer: 'label-early',
      message: expect.stringContaining('was pushed at 2026-11-20T11:00:00Z'),
    });
  });

  it('refuses a dispatch on another branch or tag, and one that names an old pull request', async () => {
    const event = 'workflow_dispatch';
    const dispatched = (sent: Deployment) => ({ origin: { ...sent.origin, event } });
    world.github.runs.set('42', run({ event, head_branch: 'feature' }));
    expect(await ask(dispatched)).toEqual({
      answer: 'not-confirmed',
      message: expect.stringContaining('is on feature, not on the default branch main'),
    });
    world.github.tip = world.repository.git('rev-parse', `${merge.sha}^`).trim();
    world.github.runs.set('42', run({ event }));
    expect(await ask(dispatched)).toEqual({
      answer: 'not-confirmed',
      message: expect.stringContaining('is not in the history of the default branch main'),
    });
    world.github.tip = undefined;
    expect((await ask(dispatched)).answer).toBe('accepted');
    const unlabelled = world.merge({ 'stacks/confirmed/more': 'x' }, head => [committed(head), merged()]);
    world.github.runs.set('42', run({ event, head_sha: unlabelled.sha }));
    const rides = (sent: Deployment) => ({
      origin: { ...sent.origin, event, sha: unlabelled.sha },
      files: [...sent.files, shipped('more', 'x')],
    });
    expect(await ask(rides)).toEqual({
      answer: 'label-missing',
      message: expect.stringContaining(`Pull request #${unlabelled.number} did not have the label`),
    });
  });

  it('refuses a job of an older commit that runs again', async () => {
    world.stack('late', { 'compose.yaml': STACK });
    const intent = { 'chatops/intents/late.yaml': `label_required: ${LABEL}\naction: rollout\nstack: late\n` };
    const [older, newer] = [world.merge(intent), world.merge(intent)];
    const deploy = (one: Merge) => {
      world.github.runs.set('42', run({ head_sha: one.sha }));
      return ask(sent => ({
        origin: { ...sent.origin, sha: one.sha },
        files: [],
        intents: [
          {
            name: 'late',
            document: 1,
            documents: 1,
            intent: { action: 'rollout', stack: 'late', label_required: LABEL },
          },
        ],
        approval: {
          ...sent.approval,
          pull_request: one.number,
          merge_sha: one.sha,
          head_sha: one.sha.replace(/^./, 'f'),
        } as Deployment['approval'],
        covers: [
          { name: 'late', stack: 'late', since: merge.sha, commits: [{ sha: one.sha, pull_request: one.number }] },
        ],
      }));
    };
    expect(await deploy(newer)).toEqual({ answer: 'accepted', message: '' });
    expect(await deploy(older)).toEqual({
      answer: 'older-than-deployed',
      message: `The commit ${older.sha.slice(0, 8)} does not descend from ${newer.sha.slice(0, 8)}, which this host deployed last.`,
    });
  });

  it('refuses a history that lacks the commit deployed last, with the remedy that works', async () => {
    // Shows the agent a history without the commit that it deployed last, as after a forced push.
    const gone = merge.sha;
    const main = world.repository.head();
    world.repository.git('reset', '--quiet', '--hard', merge.before);
    const files = { 'chatops/intents/up.yaml': INTENT, 'stacks/confirmed/compose.yaml': STACK };
    const rewritten = world.merge({ ...files, 'stacks/confirmed/notes/read.me': 'hello\n' });
    world.github.runs.set('42', run({ head_sha: rewritten.sha }));
    const claim = claimOf(rewritten);
    const kept = world.github.commits.get(gone);
    world.github.commits.delete(gone);
    const refused = await ask(claim as never);
    expect(refused).toEqual({
      answer: 'history-rewritten',
      message: expect.stringMatching(
        /^The commit \w{8}, which this host deployed last, is not in the history of \w{8}: /,
      ),
    });
    const older = (sent: Deployment) => ({ ...claim(sent), allow_older: true }) as never;
    expect((await ask(older)).answer).toBe('older-not-allowed');
    if (kept) world.github.commits.set(gone, kept);
    world.repository.git('reset', '--quiet', '--hard', main);
  });

  it('asks GitHub also if no approval is needed', async () => {
    world.github.runs.set('42', run({ event: 'workflow_dispatch' }));
    const dispatched = (sent: Deployment) => ({
      approval: null,
      origin: { ...sent.origin, event: 'workflow_dispatch' },
    });
    expect((await ask(dispatched)).answer).toBe('accepted');
    const evil = (sent: Deployment) => ({ ...dispatched(sent), files: sent.files.slice(1) });
    expect((await ask(evil)).answer).toBe('not-confirmed');
  });

  it('refuses a command if GitHub answers with an error', async () => {
    world.github.failures.push({ path: '/actions/runs', status: 502 });
    expect(await ask()).toEqual({
      answer: 'github-unconfirmed',
      message: expect.stringContaining('it answered 502'),
    });
  });

  it('sends GitHub no request for a plan', async () => {
    world.github.asked.length = 0;
    expect((await ask(() => ({ type: 'plan', approval: null }))).answer).toBe('accepted');
    expect(world.github.asked).toEqual([]);
  });

  it('opens the circuit of GitHub after five failures in a row, and says until when', async () => {
    // A success resets the count of failures.
    expect((await ask()).answer).toBe('accepted');
    for (let n = 0; n < 5; n++) {
      world.github.failures.push({ path: '/actions/runs', status: 502 });
      expect((await ask()).answer).toBe('github-unconfirmed');
    }
    world.github.asked.length = 0;
    expect(await ask()).toEqual({
      answer: 'circuit-open',
      message: expect.stringMatching(/github has failed 5 times in a row.* until 20/),
    });
    expect(world.github.asked).toEqual([]);
    expect(await world.host.metrics()).toContain('chatops_circuit_state{name="github"} 1');
  });
});
