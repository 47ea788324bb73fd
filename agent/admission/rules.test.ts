import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Intent, stackOf } from '../../intents/intent.ts';
import type { Approval } from '../../protocol/command.ts';
import { TrustEntry } from '../config/trust.ts';
import { checkRunRate, evaluateRules, type PolicyInput, type TouchedStack } from './rules.ts';

const KEY = 'ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=';
const entry = (allow: object[], more: object = {}) =>
  TrustEntry.parse({ name: 'homelab', key: KEY, repository: 'org/homelab', allow, ...more });
const intent = (value: object) => Intent.parse(value);
const rollout = intent({ action: 'rollout', stack: 'stack-media' });
const backup = (more: object = {}) =>
  intent({ action: 'backup', backup_type: 'docker_volumes', source: '/srv/x', destination: '/mnt/backup/x', ...more });
const guest = (vm_id: number) => intent({ action: 'backup', backup_type: 'vm_proxmox', vm_id, storage: 'nas' });
const label = (changes: object = {}) => ({
  name: 'ok',
  by: 'a',
  permission: 'write',
  at: '',
  after_last_push: true,
  ...changes,
});
const merged = (changes: object = {}) =>
  ({ pull_request: 1, head_sha: 'a', merge_sha: 'b', merged_by: 'a', labels: [label()], ...changes }) as Approval;
const review = (by: string, changes: object = {}) => ({ by, permission: 'write', on_head: true, ...changes });
// A Monday, 09:30 in Berlin.
const MONDAY = new Date('2026-11-23T08:30:00Z');
type Circumstances = Omit<PolicyInput, 'stacks'> & Partial<Pick<PolicyInput, 'stacks'>>;
const input = (changes: Partial<PolicyInput> = {}): Circumstances => ({
  event: 'push',
  approval: merged(),
  readOnly: false,
  at: MONDAY,
  ...changes,
});
/** Evaluates the rules for an intent that touches only the stack that it names, unless the circumstances say otherwise. */
const decide = (about: Intent, circumstances: Circumstances, rules: TrustEntry) =>
  evaluateRules(about, { stacks: [{ name: stackOf(about) }], ...circumstances }, rules);
const answer = (...args: Parameters<typeof decide>) => {
  const { rule, refusal } = decide(...args);
  return refusal?.code ?? rule;
};

describe('a policy rule', () => {
  const rule = { actions: ['rollout'], stacks: ['stack-*'] };
  it.each<[string, object, Partial<PolicyInput>, string]>([
    ['allows what a rule allows', rule, {}, 'allow.1'],
    ['names the rule', { ...rule, name: 'media' }, {}, 'media'],
    ['requires labels', { ...rule, require_labels: ['other'] }, {}, 'label-missing'],
    ['requires approvals', { ...rule, min_approvals: 1 }, {}, 'approvals-missing'],
    [
      'counts approvals of the last commit by people with write access, one for each person',
      { ...rule, min_approvals: 2 },
      {
        approval: merged({
          approvals: [review('a'), review('A'), review('b', { on_head: false }), review('c', { permission: 'triage' })],
        }),
      },
      'approvals-missing',
    ],
    [
      'accepts enough approvals',
      { ...rule, min_approvals: 2 },
      { approval: merged({ approvals: [review('a'), review('b')] }) },
      'allow.1',
    ],
    [
      'requires approvals on every pull request',
      { ...rule, min_approvals: 1 },
      { approval: merged({ approvals: [review('a')], with: [merged()] }) },
      'approvals-missing',
    ],
    ['requires "verify"', { ...rule, require_verify: true }, {}, 'verify-required'],
    ['requires the digest of a plan', { ...rule, require_plan_digest: true }, {}, 'plan-digest-missing'],
    ['accepts a digest of a plan', { ...rule, require_plan_digest: true }, { planDigest: '0'.repeat(64) }, 'allow.1'],
    ['refuses outside of its windows', { ...rule, windows: ['Sat,Sun 00:00-24:00'] }, {}, 'outside-window'],
    ['allows within its windows', { ...rule, windows: ['Mon-Fri 09:00-10:00 Europe/Berlin'] }, {}, 'allow.1'],
    ['requires an approval', rule, { approval: null }, 'approval-missing'],
    [
      'requires no approval for an event of without_approval',
      { ...rule, without_approval: ['push'] },
      { approval: null },
      'allow.1',
    ],
    [
      'requires only the scope for a plan',
      { ...rule, windows: ['Sun 00:00-01:00'], require_labels: ['other'], min_approvals: 3 },
      { readOnly: true, approval: null },
      'allow.1',
    ],
    ['is narrowed by a capability', rule, { capabilities: [{ stacks: ['other'] }] }, 'capability-not-allowed'],
    ['is narrowed by a capability without values', rule, { capabilities: [] }, 'capability-not-allowed'],
    [
      'allows what a capability allows too',
      rule,
      { capabilities: [{ actions: ['scale'] }, { stacks: ['stack-*'], actions: ['rollout'] }] },
      'allow.1',
    ],
    ['is never widened by a capability', { ...rule, stacks: ['x'] }, { capabilities: [{}] }, 'stack-not-allowed'],
  ])('%s', (_, allow, changes, expected) => {
    expect(answer(rollout, input(changes), entry([allow]))).toBe(expected);
  });

  it.each<[string, object, Intent, string]>([
    ['guests', { guests: ['10*'] }, guest(101), 'allow.1'],
    ['guests', { guests: ['10*'] }, guest(201), 'guest-not-allowed'],
    ['guests', { guests: ['10*'] }, backup(), 'guest-not-allowed'],
    [
      'the guest that a restore makes',
      { guests: ['101'], actions: ['restore'] },
      intent({
        action: 'restore',
        of: { kind: 'vm_proxmox', vm_id: 101 },
        from: 'nas',
        to_vm_id: 900,
        storage: 'local',
      }),
      'guest-not-allowed',
    ],
    ['kinds', { kinds: ['postgres'] }, backup(), 'kind-not-allowed'],
    ['kinds', { kinds: ['docker_volumes'] }, backup(), 'allow.1'],
    ['destinations', { destinations: ['/mnt/backup'] }, backup(), 'allow.1'],
    ['destinations', { destinations: ['/mnt/back'] }, backup(), 'place-not-allowed'],
    [
      'destinations',
      { destinations: ['/mnt/backup'] },
      backup({ destination: '/mnt/backup/../other' }),
      'place-not-allowed',
    ],
    ['destinations', { destinations: ['nas'] }, guest(101), 'allow.1'],
    [
      'destinations that a restore reads',
      { actions: ['restore'], destinations: ['/mnt/a'] },
      intent({ action: 'restore', of: 'x', from: '/mnt/b', to: '/srv/x' }),
      'place-not-allowed',
    ],
  ])('limits %s', (_, allow, what, expected) => {
    expect(answer(what, input(), entry([{ actions: ['backup'], stacks: ['*'], ...allow }]))).toBe(expected);
  });

  it.each<[string, object, Intent, string]>([
    ['a stack', { stacks: ['stack-*'] }, rollout, 'denied'],
    ['another stack', { stacks: ['x'] }, rollout, 'allow.1'],
    ['an action', { actions: ['backup'] }, backup(), 'denied'],
    ['a place', { destinations: ['/mnt'] }, backup(), 'denied'],
    ['a kind', { kinds: ['vm_proxmox'] }, guest(101), 'denied'],
    ['a guest', { guests: ['101'] }, guest(102), 'allow.1'],
    [
      'a service, for intents that are about all of them',
      { stacks: ['stack-media'], services: ['db'] },
      rollout,
      'denied',
    ],
    [
      'a service, for intents about another',
      { services: ['db'] },
      intent({ action: 'rollout', stack: 'stack-media', service: 'web' }),
      'allow.1',
    ],
  ])('denies %s', (_, deny, what, expected) => {
    const rules = entry([{ actions: ['rollout', 'backup'], stacks: ['*'] }], { deny: [deny] });
    expect(answer(what, input(), rules)).toBe(expected);
  });

  const S: TouchedStack = { name: 's' };
  const VAULT: TouchedStack = { name: 'vault', by: 'the path /opt/stacks/vault' };
  const NONE: TouchedStack = { name: '', by: 'the path /srv/x' };
  const UNKNOWN: TouchedStack = { name: undefined, by: 'the container x', unresolved: 'there is no container x' };
  const EVERY: TouchedStack = { name: undefined, by: 'the path /opt/stacks' };
  it.each<[string, string[][], string[] | undefined, TouchedStack[], string]>([
    ['a stack that the intent names', [['s']], undefined, [S], 'allow.1'],
    ['another stack that a path leads to', [['s']], undefined, [S, VAULT], 'stack-not-allowed'],
    ['the other stack alone', [['s']], undefined, [VAULT], 'stack-not-allowed'],
    ['two stacks that one rule allows', [['s', 'vault']], undefined, [S, VAULT], 'allow.1'],
    ['two stacks that two rules allow', [['s'], ['vault']], undefined, [S, VAULT], 'allow.1, allow.2'],
    ['a denied stack that a path leads to', [['*']], ['vault'], [S, VAULT], 'denied'],
    ['stacks that are not denied', [['*']], ['vault'], [S, NONE], 'allow.1'],
    ['something outside of stacks', [['s']], undefined, [S, NONE], 'stack-not-allowed'],
    ['something outside of stacks, under a rule for all', [['*']], undefined, [NONE], 'allow.1'],
    ['a stack that is not known', [['s']], undefined, [S, UNKNOWN], 'stack-unresolved'],
    ['a stack that is not known, under a rule for all', [['*']], undefined, [UNKNOWN], 'allow.1'],
    ['a stack that is not known, next to a deny rule', [['*']], ['vault'], [UNKNOWN], 'stack-unresolved'],
    ['every stack', [['s'], ['vault']], undefined, [EVERY], 'stack-not-allowed'],
    ['every stack, under a rule for all', [['*']], undefined, [EVERY], 'allow.1'],
    ['every stack, next to a deny rule', [['*']], ['vault'], [EVERY], 'denied'],
    ['a stack that agent.yaml lets it write to', [['s']], undefined, [S, { ...VAULT, granted: true }], 'allow.1'],
    ['such a stack, if it is denied', [['s']], ['vault'], [S, { ...VAULT, granted: true }], 'denied'],
  ])('decides about %s', (_, allowed, denied, stacks, expected) => {
    const rules = entry(
      allowed.map(patterns => ({ actions: ['backup'], stacks: patterns })),
      denied ? { deny: [{ stacks: denied }] } : {},
    );
    expect(answer(backup(), input({ stacks }), rules)).toBe(expected);
  });

  it('requires the labels of each rule that is needed', () => {
    const rules = entry([
      { actions: ['backup'], stacks: ['s'], require_labels: ['ok'] },
      { actions: ['backup'], stacks: ['vault'], require_labels: ['other'] },
    ]);
    expect(answer(backup(), input({ stacks: [S] }), rules)).toBe('allow.1');
    expect(answer(backup(), input({ stacks: [S, VAULT] }), rules)).toBe('label-missing');
  });

  it('counts an intent without a service, and the capabilities of the tailnet, for each stack that it touches', () => {
    const rules = entry([{ actions: ['backup'], stacks: ['*'] }], { deny: [{ stacks: ['vault'], services: ['db'] }] });
    expect(answer(backup(), input({ stacks: [VAULT] }), rules)).toBe('denied');
    const capabilities = [{ stacks: ['s'] }];
    expect(answer(backup(), input({ stacks: [S, NONE], capabilities }), rules)).toBe('capability-not-allowed');
    expect(answer(backup(), input({ stacks: [S], capabilities }), rules)).toBe('allow.1');
  });

  it('names the thing that belongs to a stack', () => {
    const rules = entry([{ actions: ['backup'], stacks: ['s'] }]);
    const messageFor = (one: TouchedStack) => decide(backup(), input({ stacks: [one] }), rules).refusal?.message;
    expect(messageFor(VAULT)).toBe('This host does not allow this key to change vault (the path /opt/stacks/vault).');
    expect(messageFor(UNKNOWN)).toBe('The stack of the container x is not known: there is no container x.');
  });

  it('returns the finding of each rule, and the most helpful refusal', () => {
    const rules = entry([
      { actions: ['backup'], stacks: ['*'] },
      { name: 'media', actions: ['rollout'], stacks: ['stack-media'], require_labels: ['other'] },
    ]);
    const { refusal, findings } = decide(rollout, input(), rules);
    expect(refusal?.code).toBe('label-missing');
    expect(findings.map(({ rule, refusal: finding }) => ({ rule, code: finding?.code }))).toEqual([
      { rule: 'allow.1', code: 'action-not-allowed' },
      { rule: 'media', code: 'label-missing' },
    ]);
  });

  it('never allows more after a deny rule is added or an allow rule is removed', () => {
    const names = fc.constantFrom('a', 'b', 'stack-a', '*', 'stack-*');
    const scope = fc.record({
      actions: fc.uniqueArray(fc.constantFrom('rollout', 'scale', 'backup'), { minLength: 1 }),
      stacks: fc.uniqueArray(names, { minLength: 1 }),
    });
    const what = fc.constantFrom('a', 'b', 'stack-a').map(stack => intent({ action: 'rollout', stack }));
    fc.assert(
      fc.property(fc.array(scope, { minLength: 2, maxLength: 5 }), scope, what, (allow, deny, about) => {
        const isAllowed = (rules: TrustEntry) => decide(about, input(), rules).refusal === undefined;
        const all = entry(allow);
        if (isAllowed(entry(allow, { deny: [deny] }))) expect(isAllowed(all)).toBe(true);
        if (isAllowed(entry(allow.slice(1)))) expect(isAllowed(all)).toBe(true);
        expect(isAllowed(all)).toBe(
          allow.some(
            ({ actions, stacks }) =>
              actions.includes('rollout') &&
              stacks.some(
                name =>
                  name === '*' ||
                  name === (about as { stack: string }).stack ||
                  (name === 'stack-*' && (about as { stack: string }).stack.startsWith('stack-')),
              ),
          ),
        );
      }),
    );
  });

  it('never allows more when an intent touches one more stack', () => {
    const touched = fc.constantFrom(S, VAULT, NONE, UNKNOWN, EVERY, { ...VAULT, granted: true as const });
    const patterns = fc.uniqueArray(fc.constantFrom('s', 'vault', '*', 'v*'), { minLength: 1 });
    const denials = fc.array(patterns, { maxLength: 2 });
    fc.assert(
      fc.property(
        fc.array(patterns, { minLength: 1 }),
        denials,
        fc.array(touched),
        touched,
        (allow, deny, all, more) => {
          const rules = entry(
            allow.map(stacks => ({ actions: ['backup'], stacks })),
            { deny: deny.map(stacks => ({ stacks })) },
          );
          const isAllowed = (stacks: TouchedStack[]) =>
            decide(backup(), input({ stacks }), rules).refusal === undefined;
          if (isAllowed([S, ...all, more])) expect(isAllowed([S, ...all])).toBe(true);
          expect(isAllowed([more, ...all, S])).toBe(isAllowed([S, ...all, more]));
        },
      ),
    );
  });

  it('refuses a run above the rate of its entry', () => {
    const limited = entry([rule], { rate: { runs: 2, per: '1h' } });
    const asked: string[] = [];
    const started = (count: number) => (since: string) => {
      asked.push(since);
      return count;
    };
    expect(checkRunRate(limited, started(1), MONDAY)).toBeUndefined();
    expect(checkRunRate(limited, started(2), MONDAY)?.code).toBe('run-rate-reached');
    expect(asked).toEqual(['2026-11-23T07:30:00.000Z', '2026-11-23T07:30:00.000Z']);
    expect(checkRunRate(entry([rule]), started(1e9), MONDAY)).toBeUndefined();
  });
});
