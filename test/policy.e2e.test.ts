import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../agent/config/load.ts';
import { Host } from './stand/host.ts';

const KEY = 'ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=';
let dir: string;
let host: Host;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-policy-'));
  host = new Host({
    dir,
    repository: 'org/homelab',
    allow: [
      { name: 'media', actions: ['rollout'], stacks: ['stack-*'], require_labels: ['approved'], min_approvals: 1 },
      { actions: ['rollout'], stacks: ['nightly'], without_approval: ['schedule'] },
    ],
  });
  host.configure();
});
afterAll(() => rmSync(dir, { recursive: true }));
const write = (name: string, text: string) => {
  writeFileSync(join(dir, name), text);
  return join(dir, name);
};

describe('chatops policy', () => {
  it('tests agent.yaml against expected decisions', async () => {
    const cases = `cases:
  - {name: merged, entry: homelab, labels: [approved], approvals: 1, intent: {action: rollout, stack: stack-a}, expect: allowed, rule: media}
  - {name: unlabelled, entry: homelab, intent: {action: rollout, stack: stack-a}, expect: refused, code: label-missing}
  - {name: nightly, entry: homelab, event: schedule, merged: false, intent: {action: rollout, stack: nightly}, expect: allowed}
`;
    const good = await host.chatops(['policy', 'test', write('cases.yaml', cases)]);
    expect({ exit: good.code, stdout: good.stdout }, good.stderr).toEqual({
      exit: 0,
      stdout:
        '✓ merged: allowed (by media)\n✓ unlabelled: refused (label-missing: Pull request #1 did not have the label "approved" when it was merged.)\n✓ nightly: allowed (by allow.2)\n',
    });
    const wrong = await host.chatops([
      'policy',
      'test',
      write('wrong.yaml', cases.replace('code: label-missing', 'code: denied')),
    ]);
    expect({ exit: wrong.code, stdout: wrong.stdout }).toEqual({
      exit: 1,
      stdout: expect.stringContaining('✗ unlabelled: refused (label-missing'),
    });
    const broken = await host.chatops(['policy', 'test', write('broken.yaml', 'cases: [{name: x, wrong: 1}]')]);
    expect({ exit: broken.code, stderr: broken.stderr }).toEqual({ exit: 1, stderr: expect.stringContaining('wrong') });
  });

  it('explains which rule admits an intent, or why each rule refuses it', async () => {
    const file = write('up.yaml', 'action: rollout\nstack: stack-a\n');
    const refused = await host.chatops(['policy', 'explain', file, '--entry', 'homelab', '--label', 'approved']);
    expect({ exit: refused.code, stdout: refused.stdout }, refused.stderr).toEqual({
      exit: 1,
      stdout: expect.stringMatching(
        /^document 1: ✗ approvals-missing: .*\n {4}media: approvals-missing: .*\n {4}allow\.2: stack-not-allowed: /,
      ),
    });
    const args = ['policy', 'explain', file, '--entry', 'homelab', '--label', 'approved', '--approvals', '1'];
    const allowed = await host.chatops(args);
    expect({ exit: allowed.code, firstLine: allowed.stdout.split('\n')[0] }).toEqual({
      exit: 0,
      firstLine: 'document 1: ✓ allowed by media',
    });
    expect(JSON.parse((await host.chatops([...args, '--json'])).stdout)).toMatchObject([
      { document: 1, rule: 'media' },
    ]);
    expect((await host.chatops(['policy', 'explain', file, '--entry', 'missing'])).stderr).toContain(
      'Existing entries: homelab.',
    );
    expect((await host.chatops(['policy'])).code).toBe(2);
  });
});

describe('a policy that contradicts itself', () => {
  const config = (entry: object, more: object = {}) =>
    JSON.stringify({
      agent: 'whitebox',
      trust: [
        {
          name: 'homelab',
          key: KEY,
          repository: 'org/homelab',
          allow: [{ actions: ['rollout'], stacks: ['*'] }],
          ...entry,
        },
      ],
      ...more,
    });
  it.each<[string, object, RegExp]>([
    [
      'guests of rollouts',
      { allow: [{ actions: ['rollout'], stacks: ['*'], guests: ['101'] }] },
      /admits nothing: its actions are not backup/,
    ],
    [
      'services of backups',
      { allow: [{ actions: ['backup'], stacks: ['*'], services: ['db'] }] },
      /never name a service/,
    ],
    [
      'guests of a kind without guests',
      { allow: [{ actions: ['backup'], stacks: ['*'], guests: ['101'], kinds: ['plex'] }] },
      /kinds have no guests/,
    ],
    [
      'an event that the token never names',
      {
        github: { repository_id: '1', repository_owner_id: '2', event_name: 'push' },
        allow: [{ actions: ['rollout'], stacks: ['*'], without_approval: ['schedule'] }],
      },
      /is never "schedule"/,
    ],
    ['a deny rule that covers the whole entry', { deny: [{ stacks: ['*'] }] }, /deny\.1 of the entry denies all of it/],
    [
      'two rules with one name',
      { allow: [1, 2].map(() => ({ name: 'x', actions: ['rollout'], stacks: ['*'] })) },
      /"x" is used twice/,
    ],
    ['an entry with neither a key nor a token', { key: undefined }, /Expected "key", "github" or both/],
    ['a confirmation without a token', { confirm_with_github: true }, /github\.token_file/],
    ['a deny rule about nothing', { deny: [{ name: 'x' }] }, /at least one of/],
    [
      'a window that never opens',
      { allow: [{ actions: ['rollout'], stacks: ['*'], windows: ['Mon'] }] },
      /Mon-Fri 07:00/,
    ],
  ])('refuses at load %s', (_, entry, message) => {
    expect(() => parseConfig(config(entry), 'agent.yaml')).toThrow(message);
  });

  it.each(['agent: &a [*a]', 'agent: *nothing', 'agent: &a {x: *a}'])(
    'refuses at load an alias that leads nowhere: %s',
    text => {
      expect(() => parseConfig(text, 'agent.yaml')).toThrow(/^agent\.yaml: .*Write it out\.$/);
    },
  );

  it('loads a policy that does not contradict itself', () => {
    const entry = { deny: [{ stacks: ['vault'] }], confirm_with_github: true, rate: { runs: 5, per: '1h' } };
    const github = { token_file: 'credential:github' };
    expect(parseConfig(config(entry, { github }), 'agent.yaml').trust).toHaveLength(1);
  });
});
