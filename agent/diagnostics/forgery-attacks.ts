import { PAYLOAD_TYPES } from '../../protocol/signature.ts';
import { MAX_COMMAND_BYTES } from '../../protocol/wire.ts';
import type { Attack } from './attack.ts';
import { Attacker, commandFor, sendSignedCommand, sendUnsigned, signOffer } from './attacker.ts';

/** Commands with a wrong signature, token or challenge. */
export const forgeryAttacks: readonly Attack[] = [
  {
    name: 'no signature',
    right: ['signature-invalid'],
    run: target => sendSignedCommand(target, commandFor(target), { frame: frame => ({ ...frame, signatures: [] }) }),
  },
  {
    name: 'an untrusted key',
    right: ['signature-invalid'],
    run: target => sendSignedCommand(target, commandFor(target), { by: target.stranger }),
  },
  {
    name: 'an untrusted key with the id of a trusted one',
    right: ['signature-invalid'],
    run: target =>
      sendSignedCommand(target, commandFor(target), {
        by: target.stranger,
        frame: frame => ({
          ...frame,
          signatures: [{ ...(frame.signatures as object[])[0], keyid: target.key.public.id }],
        }),
      }),
  },
  {
    name: 'a changed offer',
    right: ['signature-invalid'],
    run: target =>
      sendSignedCommand(target, commandFor(target), {
        frame: frame => ({ ...frame, payload: Buffer.from(`${decode(frame.payload)} `).toString('base64') }),
      }),
  },
  {
    name: 'another command than the offered one',
    right: ['command-malformed'],
    run: target =>
      sendSignedCommand(target, commandFor(target), {
        command: bytes => Buffer.from(bytes.toString().replace('selftest', 'sel7test')),
      }),
  },
  {
    name: 'more bytes than the offer says',
    right: ['frame-malformed'],
    run: target =>
      sendSignedCommand(target, commandFor(target), { command: bytes => Buffer.concat([bytes, Buffer.of(32)]) }),
  },
  {
    name: 'an offer of a command over the limit',
    right: ['frame-malformed'],
    run: target =>
      sendSignedCommand(target, commandFor(target), { offer: offer => ({ ...offer, size: MAX_COMMAND_BYTES + 1 }) }),
  },
  {
    name: 'an offer for another agent',
    right: ['audience-mismatch'],
    run: target =>
      sendSignedCommand(target, commandFor(target), { offer: offer => ({ ...offer, agent: 'other-agent' }) }),
  },
  {
    name: 'an offer of a receipt',
    right: ['frame-malformed'],
    run: target =>
      sendSignedCommand(target, commandFor(target), {
        offer: offer => ({ ...offer, payloadType: PAYLOAD_TYPES.receipt }),
      }),
  },
  {
    name: 'a flipped bit in the signature',
    right: ['signature-invalid'],
    run: target => sendSignedCommand(target, commandFor(target), { frame: flipSignatureBit }),
  },
  {
    name: 'a truncated signature',
    right: ['signature-invalid'],
    run: target =>
      sendSignedCommand(target, commandFor(target), { frame: frame => ({ ...frame, signatures: [{ sig: 'AAAA' }] }) }),
  },
  {
    name: 'five signatures',
    right: ['frame-malformed'],
    run: target =>
      sendSignedCommand(target, commandFor(target), {
        frame: frame => ({ ...frame, signatures: Array(5).fill((frame.signatures as object[])[0]) }),
      }),
  },
  {
    name: 'a receipt instead of an offer',
    right: ['signature-invalid'],
    run: target => sendSignedCommand(target, commandFor(target), { as: PAYLOAD_TYPES.receipt }),
  },
  {
    name: 'a receipt that is labelled as an offer',
    right: ['signature-invalid'],
    run: target =>
      sendSignedCommand(target, commandFor(target), {
        as: PAYLOAD_TYPES.receipt,
        frame: frame => ({ ...frame, payloadType: PAYLOAD_TYPES.offer }),
      }),
  },
  {
    name: 'the agent’s own hello, sent back',
    right: ['signature-invalid'],
    async run(target) {
      const attacker = new Attacker(target);
      const hello = await attacker.hello();
      attacker.socket.send(JSON.stringify({ ...hello, type: 'offer' }));
      return attacker.answer();
    },
  },
  {
    name: 'a token without a signature (alg: none)',
    // Without an entry that accepts tokens alone, the agent reads no token.
    right: ['signature-invalid', 'token-invalid', 'token-not-allowed', 'token-keys-unreachable'],
    run: target =>
      sendSignedCommand(target, commandFor(target), {
        frame: frame => ({
          ...frame,
          signatures: [],
          oidc: `${encodeJson({ alg: 'none' })}.${encodeJson({ iss: 'x' })}.`,
        }),
      }),
  },
  {
    name: 'a recorded offer, sent again',
    right: ['challenge-stale'],
    async run(target) {
      const first = new Attacker(target);
      const challenge = (await first.challenge()) ?? '';
      const command = Buffer.from(JSON.stringify({ ...commandFor(target), challenge }));
      const text = signOffer(target, command, challenge);
      first.socket.send(text);
      if (await first.isAsked()) first.socket.send(command);
      if ((await first.answer()) !== 'accepted') return 'the first was not accepted';
      return sendUnsigned(target, socket => socket.send(text));
    },
  },
  {
    name: 'the challenge of another connection',
    right: ['challenge-stale'],
    async run(target) {
      const other = new Attacker(target);
      const challenge = (await other.challenge()) ?? '';
      const answer = await sendSignedCommand(target, commandFor(target), { challenge });
      other.socket.terminate();
      return answer;
    },
  },
  {
    name: 'no challenge',
    right: ['challenge-stale'],
    run: target => sendSignedCommand(target, commandFor(target), { challenge: '' }),
  },
];

function flipSignatureBit(frame: Record<string, unknown>): Record<string, unknown> {
  const [first] = frame.signatures as { sig: string }[];
  const bytes = Buffer.from(first?.sig ?? '', 'base64');
  bytes[5] = (bytes[5] ?? 0) ^ 1;
  return { ...frame, signatures: [{ sig: bytes.toString('base64') }] };
}

function decode(payload: unknown): string {
  return Buffer.from(String(payload), 'base64').toString();
}

function encodeJson(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
