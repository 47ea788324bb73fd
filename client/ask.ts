import { randomUUID } from 'node:crypto';
import type { Command } from '../protocol/command.ts';
import { ANSWERS, type Answer, Answered, type Question } from '../protocol/question.ts';
import { Refused } from '../protocol/refusal.ts';
import { PAYLOAD_TYPES, verify } from '../protocol/signature.ts';
import { type AgentFrame, AnswerFrame, type RunsFrame } from '../protocol/wire.ts';
import { type Binding, buildAsk, buildList, type Task } from './command.ts';
import { type Delivery, firstLink, readFrame, sendSigned } from './deliver.ts';
import { refusals } from './refusals.ts';

/** The runs of the sender's own entry of trust at an agent, the newest first. Throws `Refused`. */
export async function listRuns(
  { limit, before, origin }: { limit: number; before?: string | undefined; origin: Task['origin'] },
  delivery: Delivery,
): Promise<RunsFrame['runs']> {
  const frame = await once('runs', binding => buildList(limit, before, randomUUID(), origin, binding), delivery);
  return frame.runs as RunsFrame['runs'];
}

/** What an agent answers to a question, proved by its key to be the answer to this one. Throws `Refused`. */
export async function ask<Q extends Question>(
  question: Q,
  { origin }: Pick<Task, 'origin'>,
  delivery: Delivery,
): Promise<Answer<Q['about']>> {
  const id = randomUUID();
  const frame = await once('answer', binding => buildAsk(question, id, origin, binding), delivery);
  const proof = verify(AnswerFrame.parse(frame), PAYLOAD_TYPES.answer, [delivery.agent.key]);
  if (!proof) throw refusals.answerUnproved('another key than the pinned one signed it');
  const answered = Answered.safeParse(JSON.parse(proof.body.toString('utf8')));
  if (!answered.success || answered.data.to !== id) throw refusals.answerUnproved('it belongs to another question');
  const answer = ANSWERS[question.about].safeParse(answered.data.answer);
  if (!answer.success) throw refusals.answerUnproved('it can’t be read');
  return answer.data as Answer<Q['about']>;
}

/** Sends one command, and waits for the one frame of that type. Throws `Refused`. */
async function once<Type extends 'runs' | 'answer'>(
  type: Type,
  build: (binding: Binding) => Command,
  delivery: Delivery,
): Promise<Extract<AgentFrame, { type: Type }>> {
  const over = AbortSignal.timeout(delivery.timeout);
  const link = await firstLink(delivery, over);
  try {
    await sendSigned(link, delivery, build);
    for await (const text of link.frames()) {
      const frame = readFrame(text);
      if (frame?.type === type) return frame as Extract<AgentFrame, { type: Type }>;
      if (frame?.type === 'refusal')
        throw new Refused({ code: frame.code, message: frame.message, remedy: frame.remedy });
    }
  } finally {
    link.close();
  }
  throw over.aborted
    ? refusals.timedOut(undefined, delivery.timeout / 60_000)
    : refusals.agentSilent(delivery.agent.url);
}
