import { randomUUID } from 'node:crypto';
import { posix } from 'node:path';
import { Admission } from '../../../agent/admission/admit.ts';
import { type AuthContext, authenticate, openCommand, trustedKeys } from '../../../agent/admission/authenticate.ts';
import { Live } from '../../../agent/config/live.ts';
import { Config } from '../../../agent/config/load.ts';
import { executors } from '../../../agent/executors/index.ts';
import { CircuitBreakers } from '../../../agent/outbound/circuit-breaker.ts';
import { parseOfferFrame } from '../../../agent/server/client-frames.ts';
import { blindHostReader } from '../../../agent/system/host-reader.ts';
import { generateKey, readSecretKey } from '../../../protocol/keys.ts';
import { createOffer } from '../../../protocol/offer.ts';
import { Refused } from '../../../protocol/refusal.ts';
import { PAYLOAD_TYPES, type PayloadType, signPayload, verifySignature } from '../../../protocol/signature.ts';
import type { Random } from '../../faults/random.ts';
import { command, LABELLED } from '../../stand/signer.ts';
import { mutateText, mutateValue, randomPath } from '../mutate.ts';
import { admitted, crashed, FINE, LET_IN, type Target, type Verdict } from '../target.ts';

const trusted = readSecretKey(generateKey().secret);
const stranger = readSecretKey(generateKey().secret);
const CHALLENGE = 'c'.repeat(44);
const config = Config.parse({
  agent: 'whitebox',
  stacks: { root: '/nonexistent/stacks' },
  state_dir: '/nonexistent/state',
  trust: [
    {
      name: 'homelab',
      key: trusted.public.text,
      repository: 'org/homelab',
      repository_id: '7001',
      allow: [{ actions: ['rollout', 'scale'], stacks: ['stack-*'], require_labels: ['approved-by-gemini'] }],
    },
  ],
});
const admission = new Admission({
  live: new Live(() => config),
  executors,
  host: blindHostReader,
  deployments: { last: () => undefined },
  ownKeys: () => [],
  circuits: new CircuitBreakers(),
});
const auth: AuthContext = {
  agent: 'whitebox',
  keys: trustedKeys(config),
  entries: config.trust,
  issuer: { verify: () => Promise.reject(new Error('tokens are not checked here')) },
  identify: () => Promise.reject(new Error('identities are not requested here')),
};
const file = (path: string) => ({
  stack: 'stack-web',
  path,
  mode: 0o644 as const,
  // The digest of an empty file.
  sha256: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  content: '',
});
const bodies = (): object[] => [
  command([{ action: 'rollout', stack: 'stack-web' }], { dry_run: true }),
  command([{ action: 'scale', stack: 'stack-web', service: 'web', replicas: 2 }], { dry_run: true }),
  command([{ action: 'rollout', stack: 'stack-web', source_dir: 'stacks/web' }], {
    dry_run: true,
    files: [file('compose.yaml')],
  }),
  command(
    [
      { action: 'rollout', stack: 'stack-web', id: 'web', needs: ['data'], on_failure: 'rollback' },
      { action: 'scale', stack: 'stack-web', service: 'web', replicas: 1, needs: ['web', 'other'], if: 'always' },
    ],
    {
      dry_run: true,
      undo: { run: 'a-run-before', documents: [1] },
      given: [
        {
          place: 9,
          name: 'test',
          document: 9,
          outcome: 'succeeded',
          intent: { action: 'scale', id: 'other', host: 'b' },
        },
      ],
    },
  ),
  command([{ action: 'rollout', stack: 'stack-web' }], { type: 'plan', approval: null, params: { tag: 'x' } }),
];
const SIGNED = bodies().map(body => Buffer.from(JSON.stringify({ ...body, challenge: CHALLENGE })));

/** Decides about an offer and the bytes that follow it as a session does. Returns the code of the refusal, or the body that was let in. */
async function decide(text: string, bytes: Buffer): Promise<{ code: string } | { body: object }> {
  try {
    const challenge = { text: CHALLENGE, madeAt: performance.now(), answered: false };
    const from = { address: '100.64.0.9', port: 1 };
    const authenticated = await authenticate(parseOfferFrame(Buffer.from(text)), auth, challenge, from);
    const received = openCommand(bytes, authenticated);
    if (received.type !== 'run' && received.type !== 'plan') return { code: 'other' };
    await admission.admit(received, { kind: 'key', sender: authenticated.sender, address: from.address });
    return { body: received };
  } catch (error) {
    if (error instanceof Refused) return { code: error.code };
    throw error;
  }
}

const offerOf = (bytes: Buffer) => createOffer(bytes, { agent: 'whitebox', challenge: CHALLENGE });

/** Only offers with unchanged bytes, followed by exactly the offered command, may be let in: the reference compares the bytes. */
export const envelopes: Target = {
  name: 'envelopes',
  async run(random) {
    const body = random.pick(SIGNED);
    const types = Object.values(PAYLOAD_TYPES);
    const signedAs: PayloadType = random.below(3) === 0 ? random.pick(types) : PAYLOAD_TYPES.offer;
    const by = random.below(4) === 0 ? stranger : trusted;
    const frame = { type: 'offer', ...signPayload(signedAs, offerOf(body), by) } as Record<string, unknown>;
    const kind = random.below(8);
    if (kind === 0) frame.payloadType = random.pick([...types, '', 'application/json']);
    if (kind === 1) frame.payload = mutateText(String(frame.payload), random);
    if (kind === 2) frame.signatures = mutateValue(frame.signatures as never, random);
    if (kind === 3) frame.signatures = [];
    const text =
      kind === 4
        ? mutateText(JSON.stringify(frame), random)
        : JSON.stringify(kind === 5 ? mutateValue(frame as never, random) : frame);
    const sent =
      kind === 6 ? Buffer.from(mutateText(body.toString(), random)) : kind === 7 ? random.pick(SIGNED) : body;
    return checkEnvelope(text, body, sent, signedAs === PAYLOAD_TYPES.offer && by === trusted);
  },
};

async function checkEnvelope(text: string, body: Buffer, sent: Buffer, isValid: boolean): Promise<Verdict> {
  try {
    const answer = await decide(text, sent);
    if (!('body' in answer)) return FINE;
    const payload = Buffer.from(String((JSON.parse(text) as { payload: unknown }).payload), 'base64');
    return isValid && sent.equals(body) && offerOf(body).equals(payload)
      ? LET_IN
      : admitted('an envelope that was not signed in this form', text);
  } catch (error) {
    return crashed(error, text);
  }
}

/** Correctly signed commands with random content. Those that are let in must match the policy, and their paths must stay in the stack. */
export const commands: Target = {
  name: 'commands',
  async run(random) {
    const body = random.below(4) === 0 ? withPath(random) : random.pick(bodies());
    const changed = random.below(3) === 0 ? body : mutateValue(JSON.parse(JSON.stringify(body)) as never, random);
    const bytes = Buffer.from(
      JSON.stringify(typeof changed === 'object' ? { ...(changed as object), challenge: CHALLENGE } : changed),
    );
    const text = JSON.stringify({ type: 'offer', ...signPayload(PAYLOAD_TYPES.offer, offerOf(bytes), trusted) });
    try {
      const answer = await decide(text, bytes);
      const why = 'body' in answer ? findViolation(answer.body as never) : undefined;
      if (!('body' in answer)) return FINE;
      return why === undefined ? LET_IN : admitted(why, bytes.toString());
    } catch (error) {
      return crashed(error, bytes.toString());
    }
  },
};

const withPath = (random: Random) =>
  command([{ action: 'rollout', stack: 'stack-web', source_dir: 'stacks/web' }], {
    id: randomUUID(),
    dry_run: true,
    files: [file(randomPath(random))],
  });

interface Body {
  type: string;
  id: string;
  agent: string;
  dry_run: boolean;
  approval: { labels: { name: string; after_last_push: boolean; permission: string }[] } | null;
  origin: { repository: string; repository_id: string };
  intents: { name: string; intent: Record<string, unknown> }[];
  given?: { name: string; intent: Record<string, unknown> }[];
  files: { path: string; mode: number; stack: string }[];
}

/** The reference: an independent implementation of the rules of agent.yaml. */
function findViolation(body: Body): string | undefined {
  if (body.agent !== 'whitebox') return 'another audience';
  if (body.origin.repository.toLowerCase() !== 'org/homelab' || body.origin.repository_id !== '7001')
    return 'another repository';
  if (!/^[a-z0-9-]+$/.test(body.id)) return 'an id that is a path';
  for (const { name, intent } of body.intents) {
    if (!['rollout', 'scale'].includes(String(intent.action))) return 'another action';
    if (!String(intent.stack).startsWith('stack-') || /[^A-Za-z0-9_.-]/.test(String(intent.stack)))
      return 'another stack';
    if (/[\0/\\]/.test(name)) return 'a name that is a path';
    for (const id of intent.action === 'scale' ? ((intent.needs ?? []) as string[]) : [])
      if (![...body.intents, ...(body.given ?? [])].some(other => other.name === name && other.intent.id === id))
        return 'a need without its document';
    if (intent.service !== undefined && /^-|[^A-Za-z0-9_.-]/.test(String(intent.service)))
      return 'a service that is an option';
    if (
      intent.compose !== undefined &&
      !posix.resolve('/s', String(intent.stack), String(intent.compose)).startsWith(`/s/${String(intent.stack)}/`) &&
      !String(intent.compose).startsWith('/nonexistent/stacks/')
    )
      return 'a compose file elsewhere';
  }
  if (body.type === 'run' && !body.dry_run) {
    const label = body.approval?.labels.find(({ name }) => name.toLowerCase() === 'approved-by-gemini');
    if (!label?.after_last_push || !['admin', 'maintain', 'write'].includes(label.permission)) return 'no label';
  }
  for (const { path, mode } of body.files) {
    const resolved = posix.resolve('/stack', path);
    if (!resolved.startsWith('/stack/') || resolved !== `/stack/${path}`) return `the file ${JSON.stringify(path)}`;
    if ([...path].some(char => char < ' ' || char === '\u007f' || char === '\\') || /(^|\/)\.git(\/|$)/i.test(path))
      return `the file ${JSON.stringify(path)}`;
    if (mode !== 0o644 && mode !== 0o755) return 'a mode';
  }
  return undefined;
}

/** Receipts as the action reads them: only the exact bytes that the agent signed are valid. */
export const receipts: Target = {
  name: 'receipts',
  run(random) {
    const body = Buffer.from(JSON.stringify({ run: 'x', outcome: 'succeeded', labels: LABELLED.labels }));
    const as = random.below(3) === 0 ? random.pick(Object.values(PAYLOAD_TYPES)) : PAYLOAD_TYPES.receipt;
    const by = random.below(3) === 0 ? stranger : trusted;
    const signed = signPayload(as, body, by);
    const changed = mutateValue(JSON.parse(JSON.stringify(signed)) as never, random) as unknown as typeof signed;
    if (typeof changed?.payload !== 'string' || !Array.isArray(changed.signatures)) return FINE;
    if (changed.signatures.some(signature => typeof signature?.sig !== 'string')) return FINE;
    try {
      const proof = verifySignature(changed, PAYLOAD_TYPES.receipt, [trusted.public]);
      const isGenuine = by === trusted && as === PAYLOAD_TYPES.receipt && proof?.body.equals(body);
      if (!proof) return FINE;
      return isGenuine ? LET_IN : admitted('a receipt that the agent did not sign', changed);
    } catch (error) {
      return crashed(error, changed);
    }
  },
};
