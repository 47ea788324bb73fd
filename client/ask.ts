import { randomUUID } from 'node:crypto';
import type { Command } from '../protocol/command.ts';
import { ANSWERS, type Answer, AnswerPart, type Question } from '../protocol/question.ts';
import { Refused } from '../protocol/refusal.ts';
import { PAYLOAD_TYPES, verifySignature } from '../protocol/signature.ts';
import { type AgentFrame, AnswerFrame, type RunsFrame } from '../protocol/wire.ts';
import { type Binding, buildAsk, buildList, type CommandTask } from './command.ts';
import { parseAgentFrame } from './connect.ts';
import { connectWithRetries, type DeliveryOptions, sendSigned } from './deliver.ts';
import { clientRefusals } from './refusals.ts';

/** Returns the answer of an agent to a question with one part, authenticated by its key. Throws `Refused`. */
export async function askAgent<Q extends Question>(
  question: Q,
  sender: Pick<CommandTask, 'origin'>,
  delivery: DeliveryOptions,
): Promise<Answer<Q['about']>> {
  for await (const answer of askAgentParts(question, sender, delivery)) return answer;
  throw clientRefusals.agentSilent(delivery.agent.url);
}

/** Yields the parts of an answer in order, without a gap, each authenticated as in {@link askAgent}. Throws `Refused`. */
export async function* askAgentParts<Q extends Question>(
  question: Q,
  { origin }: Pick<CommandTask, 'origin'>,
  delivery: DeliveryOptions,
): AsyncGenerator<Answer<Q['about']>> {
  const id = randomUUID();
  let parts = 0;
  for await (const frame of requestFrames('answer', binding => buildAsk(question, id, origin, binding), delivery)) {
    const proof = verifySignature(AnswerFrame.parse(frame), PAYLOAD_TYPES.answer, [delivery.agent.key]);
    if (!proof) throw clientRefusals.answerUnproved('another key than the pinned one signed it');
    const part = AnswerPart.safeParse(JSON.parse(proof.body.toString('utf8'))).data;
    if (part?.to !== id) throw clientRefusals.answerUnproved('it belongs to another question');
    if (part.part !== ++parts) throw clientRefusals.answerUnproved('a part of it is missing');
    const answer = ANSWERS[question.about].safeParse(part.answer);
    if (!answer.success) throw clientRefusals.answerUnproved('it can’t be read');
    yield answer.data as Answer<Q['about']>;
    if (part.last) return;
  }
}

/** Lists the runs of the sender's own trust entry at an agent, newest first. Throws `Refused`. */
export async function listRuns(
  { limit, before, origin }: { limit: number; before?: string | undefined; origin: CommandTask['origin'] },
  delivery: DeliveryOptions,
): Promise<RunsFrame['runs']> {
  const answers = requestFrames('runs', binding => buildList(limit, before, randomUUID(), origin, binding), delivery);
  for await (const frame of answers) return frame.runs as RunsFrame['runs'];
  throw clientRefusals.agentSilent(delivery.agent.url);
}

/** Sends one command and yields the frames of one type until the caller stops. Throws `Refused`, also if the frames end earlier. */
async function* requestFrames<Type extends 'runs' | 'answer'>(
  type: Type,
  build: (binding: Binding) => Command,
  delivery: DeliveryOptions,
): AsyncGenerator<Extract<AgentFrame, { type: Type }>> {
  const deadline = AbortSignal.timeout(delivery.timeout);
  const connection = await connectWithRetries(delivery, deadline);
  try {
    await sendSigned(connection, delivery, build);
    for await (const text of connection.frames()) {
      const frame = parseAgentFrame(text);
      if (frame?.type === type) yield frame as Extract<AgentFrame, { type: Type }>;
      if (frame?.type === 'refusal')
        throw new Refused({ code: frame.code, message: frame.message, remedy: frame.remedy });
    }
  } finally {
    connection.close();
  }
  throw deadline.aborted
    ? clientRefusals.timedOut(undefined, delivery.timeout / 60_000)
    : clientRefusals.agentSilent(delivery.agent.url);
}
