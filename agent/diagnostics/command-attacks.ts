import { randomUUID } from 'node:crypto';
import type { Attack } from './attack.ts';
import { type AttackTarget, commandFor, sendSignedCommand } from './attacker.ts';

type Body = Record<string, unknown>;
const LABEL = { name: 'chatops-selftest', by: 'x', permission: 'write', at: '', after_last_push: true };
const merged = (label: object) => ({
  pull_request: 1,
  head_sha: '0'.repeat(40),
  merge_sha: '0'.repeat(40),
  merged_by: 'x',
  labels: [label],
});
const intent = (value: object) => ({
  intents: [
    { name: 'selftest', document: 1, documents: 1, intent: { action: 'rollout', stack: 'chatops-selftest', ...value } },
  ],
});
const file = (changes: object) => ({
  stack: 'chatops-selftest',
  path: 'a',
  mode: 0o644,
  sha256: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  content: '',
  ...changes,
});
const asks = (question: object) => ({ type: 'ask', question });
const ships = (changes: object) => ({ ...intent({ source_dir: 'x' }), files: [file(changes)] });

/** Commands with a valid signature that the policy does not allow. */
const scopeAttacks: [string, string[], (target: AttackTarget) => Body][] = [
  ['a command for another agent', ['audience-mismatch'], () => ({ agent: 'other-agent' })],
  [
    'another repository',
    ['repository-not-allowed'],
    target => ({ origin: { ...(commandFor(target).origin as object), repository: 'chatops/other' } }),
  ],
  ['another stack', ['stack-not-allowed'], () => intent({ stack: 'other-stack' })],
  ['another action', ['action-not-allowed'], () => intent({ action: 'scale', service: 'x', replicas: 9 })],
  ['a stack with ".."', ['command-malformed'], () => intent({ stack: '../../etc' })],
  ['a compose file outside of the stack', ['path-outside'], () => intent({ compose: '/etc/passwd' })],
  ['an option instead of a service', ['command-malformed'], () => intent({ service: '--privileged' })],
  ['an unknown field', ['command-malformed'], () => ({ sudo: true })],
  ['an unknown field of an intent', ['command-malformed'], () => intent({ privileged: true })],
  ['a prototype in a command', ['command-malformed'], () => ({ constructor: { prototype: { polluted: true } } })],
  ['an id that is a path', ['command-malformed'], () => ({ id: '../../../etc/cron.d/x' })],
  ['a file with ".."', ['file-not-allowed'], () => ships({ path: '../x' })],
  ['a file with an absolute path', ['file-not-allowed'], () => ships({ path: '/etc/cron.d/x' })],
  ['a file under .git', ['file-not-allowed'], () => ships({ path: '.git/hooks/post-checkout' })],
  ['a file with a wrong checksum', ['file-not-allowed'], () => ships({ sha256: '0'.repeat(64) })],
  ['a set-uid file', ['command-malformed'], () => ships({ mode: 0o4755 })],
  ['no approval', ['approval-missing'], () => ({ dry_run: false })],
  ['a missing label', ['label-missing'], () => ({ dry_run: false, approval: merged({ ...LABEL, name: 'other' }) })],
  [
    'a label from before the last push',
    ['label-early'],
    () => ({ dry_run: false, approval: merged({ ...LABEL, after_last_push: false }) }),
  ],
  [
    'a label by a user without write access',
    ['label-by-unauthorized'],
    () => ({ dry_run: false, approval: merged({ ...LABEL, permission: 'triage' }) }),
  ],
  [
    'the cloud metadata address in "verify"',
    ['verify-address-not-allowed'],
    () => ({
      ...intent({ verify: { http: { url: 'http://169.254.169.254/' } } }),
      dry_run: false,
      approval: merged(LABEL),
    }),
  ],
];
/** Questions with a valid signature that the policy does not allow. */
const queryAttacks: [string, string[], Body][] = [
  ['to follow an unknown run', ['run-unknown'], { type: 'follow', run: randomUUID(), after: 0 }],
  ['to cancel an unknown run', ['run-unknown'], { type: 'cancel', run: randomUUID() }],
  ['to read an unknown run', ['run-unknown'], asks({ about: 'run', run: randomUUID() })],
  ['to read the audit log', ['question-not-allowed'], asks({ about: 'audit', after: 0 })],
  ['to run the doctor', ['question-not-allowed'], asks({ about: 'doctor' })],
  ['to read the schedules', ['question-not-allowed'], asks({ about: 'schedules' })],
  ['to send notices', ['question-not-allowed'], asks({ about: 'notify' })],
  ['an unknown question', ['command-malformed'], asks({ about: 'secrets' })],
];

/** Commands that the agent must refuse although a trusted key signed them. */
export const commandAttacks: readonly Attack[] = [
  ...scopeAttacks.map(([name, right, change]) => ({
    name,
    right,
    run: (target: AttackTarget) => sendSignedCommand(target, commandFor(target, change(target))),
  })),
  ...queryAttacks.map(([name, right, body]) => ({
    name,
    right,
    run(target: AttackTarget) {
      const { agent, challenge, issued_at, origin, id } = commandFor(target);
      return sendSignedCommand(target, { ...body, agent, challenge, issued_at, origin, id });
    },
  })),
];
