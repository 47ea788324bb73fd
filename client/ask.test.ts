import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { WebSocketServer } from 'ws';
import type { Command } from '../protocol/command.ts';
import { generateKey, readSecretKey } from '../protocol/keys.ts';
import { PAYLOAD_TYPES, signPayload } from '../protocol/signature.ts';
import { onCommand, sendHello } from '../test/stand/peer.ts';
import { askAgent, askAgentParts } from './ask.ts';

const agentKeys = readSecretKey(generateKey().secret);
const others = readSecretKey(generateKey().secret);
const origin = {
  ...{ repository: 'laptop/anna', repository_id: '0', ref: '', sha: '0'.repeat(40), event: 'laptop' },
  ...{ workflow_ref: '', run_id: '', run_attempt: '', actor: 'anna', url: '' },
};
const SCHEDULE = {
  ...{ name: 'night', cron: '0 3 * * *', timezone: 'UTC', intent: 'a.yaml' },
  ...{ next: null, last: '2026-11-21T00:00:00Z', run: null },
};

let server: WebSocketServer | undefined;
afterEach(() => {
  for (const socket of server?.clients ?? []) socket.terminate();
  server?.close();
});

/** Starts a peer that sends the hello of an agent, and then the frames that `reply` returns for the question. */
async function peer(reply: (command: Command) => object | object[] | undefined, timeout = 5_000) {
  server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  server.on('connection', socket => {
    sendHello(socket, agentKeys);
    onCommand(socket, others.public, command => {
      for (const frame of [reply(command) ?? []].flat()) socket.send(JSON.stringify(frame));
    });
  });
  const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const agent = { url, key: agentKeys.public };
  return { agent, key: others, connectTimeout: 5_000, timeout, log: () => undefined };
}
const askSchedules = async (...script: Parameters<typeof peer>) =>
  askAgent({ about: 'schedules' }, { origin }, await peer(...script));
/** The numbers of the audit rows in the parts of an answer. */
async function rowsOf(parts: (id: string) => object[]): Promise<number[]> {
  const numbers: number[] = [];
  const delivery = await peer(({ id }) => parts(id), 1_000);
  for await (const rows of askAgentParts({ about: 'audit', after: 0 }, { origin }, delivery))
    numbers.push(...rows.map(({ n }) => n));
  return numbers;
}
const answer = (to: string, content: unknown, key = agentKeys, type: keyof typeof PAYLOAD_TYPES = 'answer') =>
  part(to, { part: 1, last: true, answer: content }, key, type);
const part = (to: string, content: object, key = agentKeys, type: keyof typeof PAYLOAD_TYPES = 'answer') => ({
  type: 'answer',
  ...signPayload(PAYLOAD_TYPES[type], Buffer.from(JSON.stringify({ agent: 'whitebox', to, ...content })), key),
});
const rows = (...numbers: number[]) => numbers.map(n => ({ n, at: 't', body: '{}', digest: '' }));

describe('an answer of an agent', () => {
  it('is shown if the agent signed it for this question', async () => {
    expect(await askSchedules(({ id }) => answer(id, [SCHEDULE]))).toEqual([SCHEDULE]);
  });

  it.each<[string, (id: string) => object]>([
    ['another key signed', id => answer(id, [SCHEDULE], others)],
    ['belongs to another question', () => answer('22222222-2222-4333-8444-555555555555', [SCHEDULE])],
    ['is a receipt', id => answer(id, [SCHEDULE], agentKeys, 'receipt')],
    ['does not match the question', id => answer(id, { name: 'night' })],
  ])('that %s is not shown', async (_, reply) => {
    await expect(askSchedules(({ id }) => reply(id))).rejects.toMatchObject({ refusal: { code: 'answer-unproved' } });
  });

  it('in parts is read in order until its last part', async () => {
    const whole = (id: string) => [
      part(id, { part: 1, last: false, answer: rows(1, 2) }),
      part(id, { part: 2, last: false, answer: rows(3) }),
      part(id, { part: 3, last: true, answer: rows(4) }),
    ];
    expect(await rowsOf(whole)).toEqual([1, 2, 3, 4]);
    await expect(rowsOf(id => whole(id).toSpliced(1, 1))).rejects.toMatchObject({
      refusal: { code: 'answer-unproved', message: expect.stringContaining('missing') },
    });
    await expect(rowsOf(id => whole(id).toSpliced(2, 1))).rejects.toMatchObject({ refusal: { code: 'timeout' } });
  });

  it('may be a refusal, which is thrown', async () => {
    const refusal = { code: 'question-not-allowed', message: 'No.', remedy: 'Ask there.' };
    await expect(askSchedules(() => ({ type: 'refusal', ...refusal }))).rejects.toMatchObject({ refusal });
  });

  it('that does not arrive ends the request at its time limit', async () => {
    await expect(askSchedules(() => undefined, 500)).rejects.toMatchObject({ refusal: { code: 'timeout' } });
  });
});
