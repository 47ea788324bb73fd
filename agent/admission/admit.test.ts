import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Deployment } from '../../protocol/command.ts';
import {
  ask,
  follow,
  keys,
  neighbour,
  rollout,
  second,
  shipped,
  ships,
  stacks,
  stranger,
  url,
  withAgent,
} from '../../test/stand/guarded.ts';
import { Client, command, LABELLED } from '../../test/stand/signer.ts';

withAgent();

describe('an allowed command', () => {
  it('is accepted with each of the keys, and has a run', async () => {
    for (const { secret } of [keys, second])
      expect(await ask(command([rollout()], { dry_run: true }), secret)).toBe('accepted');
  });

  it('needs no approval if agent.yaml says so for its event', async () => {
    const dispatched = command([rollout({ label_required: 'x' })], { approval: null });
    dispatched.origin = { ...dispatched.origin, event: 'workflow_dispatch' };
    expect(await ask(dispatched)).toBe('accepted');
  });

  it('joins its run if it is sent twice, and is refused if its content differs', async () => {
    const one = command([rollout()], { dry_run: true });
    expect(await ask(one)).toBe('accepted');
    const client = new Client(url());
    await client.send(one, keys.secret);
    expect(await client.frame('accepted')).toMatchObject({ run: one.id, joined: true });
    expect((await client.receipt()).outcome).toBe('planned');
    expect(await ask({ ...one, intents: command([rollout({ service: 'other' })]).intents })).toBe('id-reused');
    expect(await ask(one, neighbour.secret)).toBe('id-reused');
  });
});

describe('admission', () => {
  const early = { ...LABELLED, labels: [{ ...LABELLED.labels[0], after_last_push: false }] } as Deployment['approval'];
  const byTriage = { ...LABELLED, labels: [{ ...LABELLED.labels[0], permission: 'triage' }] } as Deployment['approval'];
  const bare = { ...LABELLED, labels: [] };
  it.each<[string, () => object, string]>([
    ['another audience', () => command([rollout()], { agent: 'blackbox' }), 'audience-mismatch'],
    [
      'another repository',
      () => ({ ...command([rollout()]), origin: { ...command([]).origin, repository: 'org/other' } }),
      'repository-not-allowed',
    ],
    [
      'a repository that took an old name',
      () => ({ ...command([rollout()]), origin: { ...command([]).origin, repository_id: '9' } }),
      'repository-not-allowed',
    ],
    [
      'an action that no rule names for the stack',
      () => command([{ action: 'rollout', stack: 'one' }]),
      'action-not-allowed',
    ],
    [
      'a service outside of the rule',
      () => command([{ action: 'scale', stack: 'one', service: 'db', replicas: 1 }]),
      'action-not-allowed',
    ],
    ['a stack that no rule names', () => command([rollout({ stack: 'vault' })]), 'stack-not-allowed'],
    [
      'a second document that is not allowed',
      () => command([rollout(), rollout({ stack: 'vault' })]),
      'stack-not-allowed',
    ],
    ['no approval', () => command([rollout()], { approval: null }), 'approval-missing'],
    ['no label', () => command([rollout()], { approval: bare }), 'label-missing'],
    ['not the label of the intent', () => command([rollout({ label_required: 'reviewed' })]), 'label-missing'],
    ['an early label', () => command([rollout()], { approval: early }), 'label-early'],
    [
      'a label by a user without write access',
      () => command([rollout()], { approval: byTriage }),
      'label-by-unauthorized',
    ],
    [
      'another pull request of the push without the label',
      () => command([rollout()], { approval: { ...LABELLED, with: [bare] } }),
      'label-missing',
    ],
    ['a stack whose folder is missing', () => command([rollout({ stack: 'stack-none' })]), 'stack-unknown'],
    ['a stack that is a link to elsewhere', () => command([rollout({ stack: 'stack-link' })]), 'path-outside'],
    ['a compose file with ".."', () => command([rollout({ compose: '/opt/../etc/passwd' })]), 'command-malformed'],
    ['a compose file outside of the stack', () => command([rollout({ compose: '/etc/passwd' })]), 'path-outside'],
    [
      'a compose file in another stack',
      () => command([rollout({ compose: join(stacks, 'one', 'compose.yaml') })]),
      'path-outside',
    ],
    ['a compose file that is a link to elsewhere', () => command([rollout({ compose: 'leak.yml' })]), 'path-outside'],
    ['a shipped file with ".."', () => ships([shipped('../x')]), 'file-not-allowed'],
    ['a shipped file with an absolute path', () => ships([shipped('/etc/cron.d/x')]), 'file-not-allowed'],
    ['a shipped file with a NUL', () => ships([shipped('a\0b')]), 'file-not-allowed'],
    ['a shipped file of git', () => ships([shipped('a/.git/config')]), 'file-not-allowed'],
    [
      'a shipped file with a wrong checksum',
      () => ships([shipped('a', { sha256: '0'.repeat(64) })]),
      'file-not-allowed',
    ],
    ['a shipped file twice', () => ships([shipped('a'), shipped('a')]), 'file-not-allowed'],
    ['a shipped file of another stack', () => ships([shipped('a', { stack: 'one' })]), 'file-not-allowed'],
    ['files without source_dir', () => command([rollout()], { files: [shipped('a')] }), 'file-not-allowed'],
    ['a set-uid file', () => ships([shipped('a', { mode: 0o4755 as 0o755 })]), 'command-malformed'],
    ['an unknown field', () => ({ ...command([rollout()]), sudo: true }), 'command-malformed'],
    ['an unknown field of an intent', () => command([rollout({ privileged: true })]), 'command-malformed'],
    ['an id that is a path', () => command([rollout()], { id: '../../../etc/x' }), 'command-malformed'],
    ['an option in place of a service', () => command([rollout({ service: '--force' })]), 'command-malformed'],
    ['too many intents', () => command(Array.from({ length: 101 }, () => rollout())), 'command-malformed'],
    ['to cancel an unknown run', () => ({ ...follow(randomUUID()), type: 'cancel', after: undefined }), 'run-unknown'],
    ['to follow an unknown run', () => follow(randomUUID()), 'run-unknown'],
  ])('refuses %s', async (_, body, code) => {
    expect(await ask(body())).toBe(code);
  });

  it('answers a command with two problems with the code of the earlier check', async () => {
    const everything = {
      ...command([rollout({ stack: 'vault', compose: '/etc/passwd' })], { approval: null }),
      agent: 'blackbox',
    };
    expect(await ask(everything, stranger.secret)).toBe('signature-invalid');
    expect(await ask({ ...everything, challenge: 'AAAA' })).toBe('challenge-stale');
    expect(await ask(everything)).toBe('audience-mismatch');
    const here = { ...everything, agent: 'whitebox' };
    expect(await ask({ ...here, origin: { ...here.origin, repository: 'org/x' } })).toBe('repository-not-allowed');
    expect(await ask(here)).toBe('stack-not-allowed');
    expect(await ask(command([rollout({ compose: '/etc/passwd' })], { approval: null }))).toBe('approval-missing');
  });

  it('refuses a plan of a stack that is not allowed, although a plan needs no label', async () => {
    expect(await ask(command([rollout({ stack: 'vault' })], { type: 'plan', approval: null }))).toBe(
      'stack-not-allowed',
    );
    expect(await ask(command([rollout()], { type: 'plan', approval: null }))).toBe('accepted');
  });

  it('refuses to show or cancel a run for the key of another trust entry', async () => {
    const one = command([rollout()], { dry_run: true });
    await ask(one);
    expect(await ask(follow(one.id))).toBe('accepted');
    expect(await ask(follow(one.id), neighbour.secret)).toBe('not-your-run');
    const cancel = { ...follow(one.id), type: 'cancel', after: undefined };
    expect(await ask(cancel, neighbour.secret)).toBe('not-your-run');
    expect(await ask(cancel)).toBe('run-ended');
  });
});
