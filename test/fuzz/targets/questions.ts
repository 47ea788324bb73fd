import { randomUUID } from 'node:crypto';
import { type AuthContext, authenticate, openCommand, trustedKeys } from '../../../agent/admission/authenticate.ts';
import { checkQuestion, checkSender } from '../../../agent/admission/check-sender.ts';
import { simulatePolicy } from '../../../agent/admission/simulate.ts';
import { Config } from '../../../agent/config/load.ts';
import { parseOfferFrame } from '../../../agent/server/client-frames.ts';
import { blindHostReader } from '../../../agent/system/host-reader.ts';
import { generateKey, readSecretKey } from '../../../protocol/keys.ts';
import { createOffer } from '../../../protocol/offer.ts';
import type { Question } from '../../../protocol/question.ts';
import { Refused } from '../../../protocol/refusal.ts';
import { PAYLOAD_TYPES, signPayload } from '../../../protocol/signature.ts';
import { command } from '../../stand/signer.ts';
import { mutateValue } from '../mutate.ts';
import { admitted, crashed, FINE, LET_IN, type Target } from '../target.ts';

const trusted = readSecretKey(generateKey().secret);
const CHALLENGE = 'c'.repeat(44);
const config = Config.parse({
  agent: 'whitebox',
  trust: [
    {
      ...{ name: 'anna', key: trusted.public.text, repository: 'laptop/anna', may_ask: ['policy', 'schedules'] },
      allow: [{ actions: ['rollout'], stacks: ['web-*'], require_labels: ['ready'] }],
    },
  ],
});
const auth: AuthContext = {
  ...{ agent: 'whitebox', keys: trustedKeys(config), entries: config.trust },
  issuer: { verify: () => Promise.reject(new Error('tokens are not checked here')) },
  identify: () => Promise.reject(new Error('identities are not requested here')),
};
const QUESTIONS: Question[] = [
  { about: 'run', run: 'a-run-before' },
  { about: 'schedules' },
  { about: 'audit', after: 0 },
  { about: 'doctor' },
  { about: 'notify', channel: 'team' },
  {
    about: 'policy',
    supposed: [
      {
        ...{ entry: 'anna', event: 'push', labels: ['ready'], approvals: 0, merged: true, plan_digest: false },
        ...{ at: '2026-11-23T10:00:00Z', intent: { action: 'rollout', stack: 'web-a' } },
      },
    ],
  },
];
/** The topics that the entry may ask about. */
const PERMITTED = ['run', 'schedules', 'policy'];

/** Correctly signed questions with random content: only permitted topics are answered, and no policy case crashes the agent. */
export const questions: Target = {
  name: 'questions',
  async run(random) {
    const { agent, issued_at, origin } = command([]);
    const sender = { ...origin, repository: 'laptop/anna' };
    const question = {
      type: 'ask',
      id: randomUUID(),
      agent,
      issued_at,
      origin: sender,
      question: random.pick(QUESTIONS),
    };
    const changed =
      random.below(3) === 0 ? question : mutateValue(JSON.parse(JSON.stringify(question)) as never, random);
    const bytes = Buffer.from(JSON.stringify({ ...(changed as object), challenge: CHALLENGE }));
    const offer = createOffer(bytes, { agent: 'whitebox', challenge: CHALLENGE });
    const text = JSON.stringify({ type: 'offer', ...signPayload(PAYLOAD_TYPES.offer, offer, trusted) });
    try {
      const challenge = { text: CHALLENGE, madeAt: performance.now(), answered: false };
      const from = { address: 'x', port: 1 };
      const authenticated = await authenticate(parseOfferFrame(Buffer.from(text)), auth, challenge, from);
      const received = openCommand(bytes, authenticated);
      const { sender } = authenticated;
      if (received.type !== 'ask') return FINE;
      checkSender(received, sender, config);
      checkQuestion(received.question, sender);
      if (received.question.about === 'policy')
        await simulatePolicy(received.question.supposed, config, blindHostReader);
    } catch (error) {
      return error instanceof Refused ? FINE : crashed(error, bytes.toString());
    }
    const sent = JSON.parse(bytes.toString()) as typeof question;
    const isPermitted =
      sent.agent === 'whitebox' &&
      sent.origin.repository.toLowerCase() === 'laptop/anna' &&
      PERMITTED.includes(sent.question.about);
    return isPermitted ? LET_IN : admitted('a question that the entry may not ask', bytes.toString());
  },
};
