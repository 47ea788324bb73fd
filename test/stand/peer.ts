import { createHash } from 'node:crypto';
import type { WebSocket } from 'ws';
import { Command } from '../../protocol/command.ts';
import type { PublicKey, SecretKey } from '../../protocol/keys.ts';
import { Offer } from '../../protocol/offer.ts';
import { PAYLOAD_TYPES, signPayload, verifySignature } from '../../protocol/signature.ts';
import { type Hello, PROTOCOL } from '../../protocol/wire.ts';

/** Sends the hello of an agent with the name "whitebox". */
export function sendHello(socket: WebSocket, key: SecretKey, changes: Partial<Hello> = {}): void {
  const hello = { protocol: PROTOCOL, agent: 'whitebox', version: '0', challenge: 'c', publicKey: key.public.text };
  const body = Buffer.from(JSON.stringify({ ...hello, ...changes }));
  socket.send(JSON.stringify({ type: 'hello', ...signPayload(PAYLOAD_TYPES.hello, body, key) }));
}

/** Reads the command of a client as an agent does: its offer, signed with `key`, then exactly the offered bytes. */
export function onCommand(socket: WebSocket, key: PublicKey, handle: (command: Command) => void): void {
  let offer: Offer;
  let bytes = Buffer.alloc(0);
  socket.on('message', (data: Buffer, isBinary) => {
    if (!isBinary) {
      const proof = verifySignature(JSON.parse(String(data)), PAYLOAD_TYPES.offer, [key]);
      offer = Offer.parse(JSON.parse(String(proof?.body)));
      return socket.send(JSON.stringify({ type: 'continue' }));
    }
    bytes = Buffer.concat([bytes, data]);
    if (bytes.length < offer.size) return;
    if (createHash('sha256').update(bytes).digest('hex') !== offer.sha256) throw new Error('not the offered command');
    const command = Command.parse(JSON.parse(String(bytes)));
    if (command.agent !== offer.agent || command.challenge !== offer.challenge) throw new Error('another binding');
    handle(command);
  });
}
