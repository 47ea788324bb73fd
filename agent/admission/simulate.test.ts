import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Intent } from '../../intents/intent.ts';
import { generateKey } from '../../protocol/keys.ts';
import { PolicyCase } from '../../protocol/question.ts';
import { Refused } from '../../protocol/refusal.ts';
import { command } from '../../test/stand/signer.ts';
import { Live } from '../config/live.ts';
import { Config } from '../config/load.ts';
import { executors } from '../executors/index.ts';
import { CircuitBreakers } from '../outbound/circuit-breaker.ts';
import { createHostReader } from '../system/host-reader.ts';
import { Admission, type AdmissionSender } from './admit.ts';
import { approvalOf, simulatePolicy } from './simulate.ts';
import { supposeContainers } from './touched-stacks.ts';

let dir: string;
let root: string;
const key = generateKey().public;
const CONTAINERS = { 'a-db': 'a', 'b-db': 'b', 'vault-db': 'vault', lonely: '' };

beforeAll(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'chatops-simulate-')));
  root = join(dir, 'stacks');
  for (const folder of ['stacks/a', 'stacks/b', 'stacks/vault', 'nas/of-a', 'nas/of-vault'])
    mkdirSync(join(dir, folder), { recursive: true });
  symlinkSync(join(root, 'vault'), join(root, 'a', 'link'));
  for (const [name, source] of [
    ['of-a', join(root, 'a')],
    ['of-vault', 'vault-db:/data'],
  ] as const)
    writeFileSync(
      join(dir, 'nas', name, 'one.json'),
      JSON.stringify({
        ...{ kind: 'docker_volumes', name, run: 'run-00001', at: '2026-11-20T06:00:00.000Z', source },
        ...{ bytes: 1, files: 1, sha256: '' },
      }),
    );
});
afterAll(() => rmSync(dir, { recursive: true }));

const names = <T extends string>(...all: T[]) =>
  fc.uniqueArray(fc.constantFrom(...all), { minLength: 1, maxLength: 3 });
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined, freq: 2 });
/** Present in one of four cases, so that the other requirements decide too. */
const rarely = <T>(value: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: value });
const ACTIONS = ['rollout', 'scale', 'backup', 'restore', 'drill'] as const;
const EVENTS = ['push', 'schedule', 'workflow_dispatch'] as const;
const stacks = names('a', 'b', 'vault', '*', 'a*');
const allow = fc.record({
  actions: fc.oneof(fc.constant([...ACTIONS]), names(...ACTIONS)),
  stacks: fc.oneof(fc.constant(['*']), stacks),
  require_labels: maybe(names('ok', 'other')),
  min_approvals: rarely(fc.constantFrom(1, 2)),
  require_verify: rarely(fc.boolean()),
  require_plan_digest: rarely(fc.boolean()),
  windows: rarely(fc.constantFrom(['Sat,Sun 00:00-24:00'], ['Mon-Fri 00:00-24:00'])),
  without_approval: rarely(names(...EVENTS)),
  kinds: rarely(names('docker_volumes', 'sqlite')),
});
const deny = fc
  .record({ actions: maybe(names(...ACTIONS)), stacks: maybe(stacks), kinds: maybe(names('sqlite')) })
  .filter(rule => Object.values(rule).some(value => value !== undefined));
const stack = fc.constantFrom('a', 'b', 'vault');
const container = fc.constantFrom(...Object.keys(CONTAINERS), 'missing');

/** Intents that only the rules and the check of paths decide about. */
const intents = () => {
  const path = fc.constantFrom('a', 'b', 'vault', 'a/link', '').map(one => join(root, one));
  const nas = join(dir, 'nas');
  const label_required = maybe(fc.constantFrom('ok', 'other'));
  const of = fc.constantFrom('of-a', 'of-vault', 'of-none');
  const forms: fc.Arbitrary<object>[] = [
    fc.record({ action: fc.constant('rollout'), stack, label_required, verify: maybe(fc.constant({ settle: '1s' })) }),
    fc.record({ action: fc.constant('scale'), stack, service: fc.constant('web'), replicas: fc.constant(1) }),
    fc.record({
      ...{ action: fc.constant('backup'), backup_type: fc.constant('docker_volumes'), stack: maybe(stack) },
      ...{ source: path, destination: fc.constant(nas), label_required },
    }),
    fc.record({
      ...{ action: fc.constant('backup'), database_type: fc.constant('sqlite'), stack: maybe(stack) },
      ...{ source_container: container, source_path: fc.constant('/data/a.db'), destination: fc.constant(nas) },
    }),
    fc.record({ action: fc.constant('restore'), of, from: fc.constant(nas), to: path, stack: maybe(stack) }),
    fc.record({ action: fc.constant('drill'), of, from: fc.constant(nas) }),
  ];
  return fc.oneof(...forms).map(one => Intent.parse(JSON.parse(JSON.stringify(one))));
};
const label = fc.oneof(
  names('ok', 'other').map(([one = 'ok']) => one),
  fc.record({
    name: fc.constantFrom('ok', 'other', 'OK'),
    early: fc.boolean(),
    permission: fc.constantFrom('admin' as const, 'write' as const, 'triage' as const, 'none' as const),
  }),
);
const circumstances = fc.record({
  event: fc.constantFrom(...EVENTS),
  labels: fc.uniqueArray(label, { maxLength: 3, selector: one => JSON.stringify(one) }),
  approvals: fc.integer({ min: 0, max: 2 }),
  merged: fc.nat(5).map(one => one > 0),
  plan_digest: fc.boolean(),
  at: fc.constantFrom('2026-11-21T10:00:00Z', '2026-11-23T10:00:00Z'),
});

describe('a simulated decision', () => {
  it('is the one of the agent: for random rules, intents, labels, approvals, events and containers', async () => {
    const seen = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(allow, { minLength: 1, maxLength: 3, selector: one => JSON.stringify(one) }),
        fc.array(deny, { maxLength: 2 }),
        fc.nat(5).map(one => one === 0),
        intents(),
        circumstances,
        async (allowed, denied, isHostRun, intent, around) => {
          const source = isHostRun ? { local: 'schedule' } : { key, repository: 'org/homelab' };
          const parsed = Config.safeParse({
            agent: 'whitebox',
            stacks: { root },
            backups: { destinations: [{ path: join(dir, 'nas') }] },
            trust: [JSON.parse(JSON.stringify({ name: 'x', ...source, allow: allowed, deny: denied }))],
          });
          // The configuration refuses rules that admit nothing.
          fc.pre(parsed.success);
          const config = parsed.data as Config;
          const site = { stacksRoot: root };
          const files = createHostReader({ get: async () => null }, {}, async () => undefined);
          const host = supposeContainers(CONTAINERS, site, files);
          const supposed = PolicyCase.parse({ entry: 'x', intent, ...around });
          const offline = { ...supposed, containers: CONTAINERS };
          const [real, pretended] = await simulatePolicy([supposed, offline], config, host);

          const admission = new Admission({
            deployments: { last: () => undefined },
            ownKeys: () => [],
            ...{ executors, host, circuits: new CircuitBreakers(), now: () => new Date(around.at) },
            live: new Live(() => config),
          });
          const [entry] = config.trust;
          if (!entry) throw new Error('No entry');
          const from: AdmissionSender = isHostRun
            ? { kind: 'host', entry }
            : { kind: 'key', sender: { id: 'k', entry }, address: '127.0.0.1' };
          const sent = command([intent], {
            approval: supposed.merged ? approvalOf(supposed) : null,
            ...(supposed.plan_digest ? { plan_digest: '1'.repeat(64) } : {}),
          });
          const answer = await admission
            .admit({ ...sent, origin: { ...sent.origin, event: supposed.event } }, from)
            .then(({ sender }) => ({ rule: sender.rules[0] }))
            .catch(error => {
              if (!(error instanceof Refused)) throw error;
              return { refusal: error.refusal };
            });
          const { findings, ...decision } = real ?? { findings: [] };
          expect(decision).toEqual(answer);
          expect(pretended).toEqual(real);
          const code = 'rule' in answer ? 'allowed' : answer.refusal.code;
          seen.set(code, (seen.get(code) ?? 0) + 1);
        },
      ),
      { numRuns: 1000 },
    );
    // The cases are not all decided by one check.
    const codes = [
      'action-not-allowed',
      'allowed',
      'approval-missing',
      'approvals-missing',
      'denied',
      'kind-not-allowed',
    ];
    codes.push('label-by-unauthorized', 'label-early', 'label-missing', 'outside-window', 'plan-digest-missing');
    codes.push('path-outside', 'stack-not-allowed', 'stack-unresolved', 'verify-required');
    expect([...seen.keys()].sort()).toEqual(codes.sort());
  }, 300_000);
});
