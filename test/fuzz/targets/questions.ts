import { randomUUID } from 'node:crypto';
import { type AuthContext, authenticate, trustedKeys } from '../../../agent/admission/authenticate.ts';
import { checkQuestion, checkSender } from '../../../agent/admission/check-sender.ts';
import { simulatePolicy } from '../../../agent/admission/simulate.ts';
import { Config } from '../../../agent/config/load.ts';
import { parseSignedFrame } from '../../../agent/server/session.ts';
import { generateKey, readSecretKey } from '../../../protocol/keys.ts';
import type { Question } from '../../../protocol/question.ts';
import { Refused } from '../../../protocol/refusal.ts';
import { PAYLOAD_TYPES, signPayload } from '../../../protocol/signature.ts';
import { command } from '../../stand/signer.ts';
import { mutatedValue } from '../mutate.ts';
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
const trust: AuthContext = {
  ...{ agent: 'whitebox', keys: trustedKeys(config), entries: config.trust },
  issuer: { verify: () => Promise.reject(new Error('no token is looked at')) },
  identify: () => Promise.reject(new Error('nobody is asked')),
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
/** Of whom the host tells these, and of what it tells nothing. */
const TOLD = ['run', 'schedules', 'policy'];

/** Well-signed questions with anything in them: nothing is told that the entry may not ask about, and no supposition ends the agent. */
export const questions: Target = {
  name: 'questions',
  async one(random) {
    const { agent, issued_at, origin } = command([]);
    const from = { ...origin, repository: 'laptop/anna' };
    const asked = { type: 'ask', id: randomUUID(), agent, issued_at, origin: from, question: random.pick(QUESTIONS) };
    const changed = random.below(3) === 0 ? asked : mutatedValue(JSON.parse(JSON.stringify(asked)) as never, random);
    const bytes = Buffer.from(JSON.stringify({ ...(changed as object), challenge: CHALLENGE }));
    const text = JSON.stringify({ type: 'signed', ...signPayload(PAYLOAD_TYPES.command, bytes, trusted) });
    try {
      const challenge = { text: CHALLENGE, madeAt: performance.now(), answered: false };
      const { command: read, sender } = await authenticate(parseSignedFrame(text), trust, challenge, {
        address: 'x',
        port: 1,
      });
      if (read.type !== 'ask') return FINE;
      checkSender(read, sender, config);
      checkQuestion(read.question, sender);
      if (read.question.about === 'policy') for (const one of read.question.supposed) simulatePolicy(one, config.trust);
    } catch (error) {
      return error instanceof Refused ? FINE : crashed(error, bytes.toString());
    }
    const said = JSON.parse(bytes.toString()) as typeof asked;
    const mayBe =
      said.agent === 'whitebox' &&
      said.origin.repository.toLowerCase() === 'laptop/anna' &&
      TOLD.includes(said.question.about);
    return mayBe ? LET_IN : admitted('a question that the entry may not ask', bytes.toString());
  },
};
