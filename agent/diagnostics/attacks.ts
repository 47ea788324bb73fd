import { randomUUID } from 'node:crypto';
import { PAYLOAD_TYPES } from '../../protocol/signature.ts';
import { MAX_FRAME_BYTES } from '../../protocol/wire.ts';
import {
  Attacker,
  type AttackTarget,
  commandFor,
  sendHttpRequest,
  sendSignedCommand,
  sendSlowRequest,
  sendUnsigned,
  signFrame,
} from './attacker.ts';

/** One thing that somebody may try, and the answers that are right. */
export interface Attack {
  name: string;
  right: string[];
  run: (ground: AttackTarget) => Promise<string>;
}

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

const connectionAttacks: Attack[] = [
  {
    name: 'a browser’s Origin',
    right: ['origin-not-allowed'],
    run: ground => new Attacker(ground, { headers: { Origin: 'https://example.org' } }).answer(),
  },
  {
    name: 'another’s name for this host',
    right: ['host-not-own'],
    run: ground => new Attacker(ground, { headers: { Host: 'rebound.example.org' } }).answer(),
  },
  {
    name: 'another’s name at /metrics',
    right: ['status 421'],
    run: ground => sendHttpRequest(ground, '/metrics', { headers: { Host: 'rebound.example.org' } }),
  },
  {
    name: 'another path',
    right: ['frame-malformed'],
    run: ground => new Attacker(ground, {}, undefined, '/v2').answer(),
  },
  {
    name: 'another subprotocol',
    right: ['frame-malformed'],
    run: ground => new Attacker(ground, {}, ['chat']).answer(),
  },
  {
    name: 'a request that writes',
    right: ['status 405'],
    run: ground => sendHttpRequest(ground, '/metrics', { method: 'POST' }),
  },
  {
    name: 'headers of 64 KiB',
    right: ['status 431', 'closed'],
    run: ground => sendHttpRequest(ground, '/healthz', { headers: { 'X-Large': 'x'.repeat(65_536) } }),
  },
  { name: 'a head that never ends', right: ['closed'], run: sendSlowRequest },
  {
    name: 'compression',
    right: ['none'],
    async run(ground) {
      const attacker = new Attacker(ground, { perMessageDeflate: true });
      await attacker.hello();
      const { extensions } = attacker.socket;
      attacker.socket.terminate();
      return extensions === '' ? 'none' : extensions;
    },
  },
];

const frameAttacks: Attack[] = [
  {
    name: 'no JSON',
    right: ['frame-malformed'],
    run: ground => sendUnsigned(ground, socket => socket.send('{"type":')),
  },
  {
    name: 'JSON of another shape',
    right: ['frame-malformed'],
    run: ground => sendUnsigned(ground, socket => socket.send('[1]')),
  },
  {
    name: 'deep JSON',
    right: ['frame-malformed'],
    run: ground => sendUnsigned(ground, socket => socket.send(`${'['.repeat(1e5)}${']'.repeat(1e5)}`)),
  },
  {
    name: 'an unknown key',
    right: ['frame-malformed'],
    run: ground => sendSignedCommand(ground, commandFor(ground), { frame: frame => ({ ...frame, sudo: true }) }),
  },
  {
    name: 'a prototype',
    right: ['frame-malformed'],
    run: ground => sendUnsigned(ground, socket => socket.send('{"__proto__":{"type":"signed"}}')),
  },
  {
    name: 'binary',
    right: ['frame-malformed'],
    run: ground => sendUnsigned(ground, socket => socket.send(Buffer.of(0, 1, 2))),
  },
  {
    name: 'text that is not UTF-8',
    right: ['closed 1007'],
    run: ground => sendUnsigned(ground, socket => socket.send(Buffer.of(0xff, 0xfe), { binary: false })),
  },
  {
    name: 'a frame over the limit',
    right: ['closed 1009'],
    run: ground => sendUnsigned(ground, socket => socket.send('x'.repeat(MAX_FRAME_BYTES + 1))),
  },
  {
    name: 'fragments without end',
    right: ['closed 1006', 'closed 1008', 'closed 1009', 'closed'],
    run: ground =>
      sendUnsigned(ground, socket => {
        for (let n = 0; n < 40_000; n++) socket.send('x', { fin: false });
      }),
  },
  { name: 'silence', right: ['hello-timeout'], run: ground => sendUnsigned(ground, () => undefined) },
];

const forgeryAttacks: Attack[] = [
  {
    name: 'no signature',
    right: ['signature-invalid'],
    run: ground => sendSignedCommand(ground, commandFor(ground), { frame: frame => ({ ...frame, signatures: [] }) }),
  },
  {
    name: 'a stranger’s key',
    right: ['signature-invalid'],
    run: ground => sendSignedCommand(ground, commandFor(ground), { by: ground.stranger }),
  },
  {
    name: 'a stranger’s key with the name of a trusted one',
    right: ['signature-invalid'],
    run: ground =>
      sendSignedCommand(ground, commandFor(ground), {
        by: ground.stranger,
        frame: frame => ({
          ...frame,
          signatures: [{ ...(frame.signatures as object[])[0], keyid: ground.key.public.id }],
        }),
      }),
  },
  {
    name: 'a changed payload',
    right: ['signature-invalid'],
    run: ground =>
      sendSignedCommand(ground, commandFor(ground), {
        frame: frame => ({
          ...frame,
          payload: Buffer.from(
            Buffer.from(String(frame.payload), 'base64').toString().replace('selftest', 'sel7test'),
          ).toString('base64'),
        }),
      }),
  },
  {
    name: 'a flipped bit of the signature',
    right: ['signature-invalid'],
    run: ground => sendSignedCommand(ground, commandFor(ground), { frame: flipped }),
  },
  {
    name: 'half a signature',
    right: ['signature-invalid'],
    run: ground =>
      sendSignedCommand(ground, commandFor(ground), { frame: frame => ({ ...frame, signatures: [{ sig: 'AAAA' }] }) }),
  },
  {
    name: 'five signatures',
    right: ['frame-malformed'],
    run: ground =>
      sendSignedCommand(ground, commandFor(ground), {
        frame: frame => ({ ...frame, signatures: Array(5).fill((frame.signatures as object[])[0]) }),
      }),
  },
  {
    name: 'a receipt in place of a command',
    right: ['signature-invalid'],
    run: ground => sendSignedCommand(ground, commandFor(ground), { as: PAYLOAD_TYPES.receipt }),
  },
  {
    name: 'a receipt that says it is a command',
    right: ['signature-invalid'],
    run: ground =>
      sendSignedCommand(ground, commandFor(ground), {
        as: PAYLOAD_TYPES.receipt,
        frame: frame => ({ ...frame, payloadType: PAYLOAD_TYPES.command }),
      }),
  },
  {
    name: 'the agent’s own hello sent back',
    right: ['signature-invalid'],
    async run(ground) {
      const attacker = new Attacker(ground);
      const hello = await attacker.hello();
      attacker.socket.send(JSON.stringify({ ...hello, type: 'signed' }));
      return attacker.answer();
    },
  },
  {
    name: 'a token without a signature (alg: none)',
    right: ['token-invalid', 'token-not-allowed', 'token-keys-unreachable'],
    run: ground =>
      sendSignedCommand(ground, commandFor(ground), {
        frame: frame => ({ ...frame, signatures: [], oidc: `${encoded({ alg: 'none' })}.${encoded({ iss: 'x' })}.` }),
      }),
  },
  {
    name: 'a recorded frame, sent again',
    right: ['challenge-stale'],
    async run(ground) {
      const first = new Attacker(ground);
      const text = signFrame(ground, { ...commandFor(ground), challenge: await first.challenge() });
      first.socket.send(text);
      if ((await first.answer()) !== 'accepted') return 'the first was not accepted';
      return sendUnsigned(ground, socket => socket.send(text));
    },
  },
  {
    name: 'the challenge of another connection',
    right: ['challenge-stale'],
    async run(ground) {
      const other = new Attacker(ground);
      const challenge = (await other.challenge()) ?? '';
      const answer = await sendSignedCommand(ground, commandFor(ground), { challenge });
      other.socket.terminate();
      return answer;
    },
  },
  {
    name: 'no challenge',
    right: ['challenge-stale'],
    run: ground => sendSignedCommand(ground, commandFor(ground), { challenge: '' }),
  },
];

/** Well signed, and not allowed. */
const scopeAttacks: [string, string[], (ground: AttackTarget) => Body][] = [
  ['another agent’s command', ['audience-mismatch'], () => ({ agent: 'somebody-else' })],
  [
    'another repository',
    ['repository-not-allowed'],
    ground => ({ origin: { ...(commandFor(ground).origin as object), repository: 'chatops/other' } }),
  ],
  ['another stack', ['stack-not-allowed'], () => intent({ stack: 'somebody-elses' })],
  ['another action', ['action-not-allowed'], () => intent({ action: 'scale', service: 'x', replicas: 9 })],
  ['a stack that climbs', ['command-malformed'], () => intent({ stack: '../../etc' })],
  ['a compose file elsewhere', ['path-outside'], () => intent({ compose: '/etc/passwd' })],
  ['an option in place of a service', ['command-malformed'], () => intent({ service: '--privileged' })],
  ['an unknown field', ['command-malformed'], () => ({ sudo: true })],
  ['an unknown field of an intent', ['command-malformed'], () => intent({ privileged: true })],
  ['a prototype in a command', ['command-malformed'], () => ({ constructor: { prototype: { polluted: true } } })],
  ['an id that is a path', ['command-malformed'], () => ({ id: '../../../etc/cron.d/x' })],
  ['a file that climbs', ['file-not-allowed'], () => ships({ path: '../x' })],
  ['a file with an absolute path', ['file-not-allowed'], () => ships({ path: '/etc/cron.d/x' })],
  ['a file of git', ['file-not-allowed'], () => ships({ path: '.git/hooks/post-checkout' })],
  ['a file that is not what it says', ['file-not-allowed'], () => ships({ sha256: '0'.repeat(64) })],
  ['a set-uid file', ['command-malformed'], () => ships({ mode: 0o4755 })],
  ['no approval', ['approval-missing'], () => ({ dry_run: false })],
  [
    'a label that is missing',
    ['label-missing'],
    () => ({ dry_run: false, approval: merged({ ...LABEL, name: 'other' }) }),
  ],
  [
    'a label from before the last push',
    ['label-early'],
    () => ({ dry_run: false, approval: merged({ ...LABEL, after_last_push: false }) }),
  ],
  [
    'a label by somebody who may not write',
    ['label-by-unauthorized'],
    () => ({ dry_run: false, approval: merged({ ...LABEL, permission: 'triage' }) }),
  ],
  [
    'the cloud’s metadata by "verify"',
    ['verify-address-not-allowed'],
    () => ({
      ...intent({ verify: { http: { url: 'http://169.254.169.254/' } } }),
      dry_run: false,
      approval: merged(LABEL),
    }),
  ],
];
const queryAttacks: [string, string[], Body][] = [
  ['to follow a run that is not there', ['run-unknown'], { type: 'follow', run: randomUUID(), after: 0 }],
  ['to cancel a run that is not there', ['run-unknown'], { type: 'cancel', run: randomUUID() }],
  ['to see a run that is not there', ['run-unknown'], asks({ about: 'run', run: randomUUID() })],
  ['to read the audit', ['question-not-allowed'], asks({ about: 'audit', after: 0 })],
  ['to have the host examined', ['question-not-allowed'], asks({ about: 'doctor' })],
  ['to read the schedules', ['question-not-allowed'], asks({ about: 'schedules' })],
  ['to send notices', ['question-not-allowed'], asks({ about: 'notify' })],
  ['to ask what the host does not tell', ['command-malformed'], asks({ about: 'secrets' })],
];

/** At the end: it is alive, and who may is still served. */
const livenessAttacks: Attack[] = [
  { name: 'afterwards it is alive', right: ['status 200'], run: ground => sendHttpRequest(ground, '/healthz') },
  {
    name: 'afterwards it takes what is allowed',
    right: ['accepted'],
    run: ground => sendSignedCommand(ground, commandFor(ground)),
  },
];

export const ATTACKS: readonly Attack[] = [
  ...connectionAttacks,
  ...frameAttacks,
  ...forgeryAttacks,
  ...scopeAttacks.map(([name, right, change]) => ({
    name,
    right,
    run: (ground: AttackTarget) => sendSignedCommand(ground, commandFor(ground, change(ground))),
  })),
  ...queryAttacks.map(([name, right, body]) => ({
    name,
    right,
    run(ground: AttackTarget) {
      const { agent, challenge, issued_at, origin, id } = commandFor(ground);
      return sendSignedCommand(ground, { ...body, agent, challenge, issued_at, origin, id });
    },
  })),
];
export const FINAL_ATTACKS: readonly Attack[] = livenessAttacks;

function flipped(frame: Record<string, unknown>): Record<string, unknown> {
  const [first] = frame.signatures as { sig: string }[];
  const bytes = Buffer.from(first?.sig ?? '', 'base64');
  bytes[5] = (bytes[5] ?? 0) ^ 1;
  return { ...frame, signatures: [{ sig: bytes.toString('base64') }] };
}

function encoded(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
