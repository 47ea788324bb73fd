import type { RawData, WebSocket } from 'ws';
import { Refused } from '../../protocol/refusal.ts';
import { CLIENT_FRAME_MS, OfferFrame } from '../../protocol/wire.ts';
import { refusals } from '../refusals.ts';

/** `{`, `[` and `,`: each value in JSON follows one of them. */
const STRUCTURE = new Set(Buffer.from('{[,'));
/** More than four signatures and all fields of an offer need. Base64, media types and tokens contain none of the letters. */
const MAX_STRUCTURE = 32;

/**
 * Returns the first frame of a client, which is an offer, or undefined if the connection ends without one. A second frame
 * ends the connection. Throws `Refused`.
 */
export async function receiveOffer(socket: WebSocket, closed: AbortSignal): Promise<OfferFrame | undefined> {
  const first = await new Promise<[data: RawData, isBinary: boolean] | undefined>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Refused(refusals.helloTimeout(CLIENT_FRAME_MS / 1000))), CLIENT_FRAME_MS);
    onClosed(closed, () => {
      clearTimeout(timer);
      resolve(undefined);
    });
    socket.once('message', (data: RawData, isBinary: boolean) => {
      clearTimeout(timer);
      // Until the agent asks for more, a client that sends more is not an action.
      socket.on('message', () => socket.terminate());
      resolve([data, isBinary]);
    });
  });
  if (first === undefined) return undefined;
  const [data, isBinary] = first;
  if (isBinary) throw new Refused(refusals.frameMalformed('it is binary'));
  return parseOfferFrame(data as Buffer);
}

/** Parses an offer. Before that it counts the values: a text of 64 KiB can hold 30,000. Throws `Refused`. */
export function parseOfferFrame(text: Buffer): OfferFrame {
  if (hasManyValues(text)) throw new Refused(refusals.frameMalformed('it has too many values'));
  let value: unknown;
  try {
    value = JSON.parse(text.toString());
  } catch {
    throw new Refused(refusals.frameMalformed('it is not JSON'));
  }
  const result = OfferFrame.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new Refused(refusals.frameMalformed(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'unknown'}`));
}

function hasManyValues(text: Buffer): boolean {
  let count = 0;
  for (const byte of text) if (STRUCTURE.has(byte) && ++count > MAX_STRUCTURE) return true;
  return false;
}

/**
 * Asks an authenticated sender for its command. Returns the `size` bytes, or undefined if the connection ends before the
 * last one. Throws `Refused`.
 */
export function receiveCommand(socket: WebSocket, size: number, closed: AbortSignal): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const body = Buffer.allocUnsafe(size);
    let received = 0;
    const timer = setTimeout(
      () => reject(new Refused(refusals.commandTimeout(CLIENT_FRAME_MS / 1000))),
      CLIENT_FRAME_MS,
    );
    onClosed(closed, () => {
      clearTimeout(timer);
      resolve(undefined);
    });
    const fail = (cause: string) => {
      clearTimeout(timer);
      reject(new Refused(refusals.frameMalformed(cause)));
    };
    socket.removeAllListeners('message');
    socket.on('message', (data: Buffer, isBinary: boolean) => {
      if (received === size) return socket.close(1008);
      if (!isBinary) return fail('a part of a command is not binary');
      if (received + data.length > size) return fail(`the command has more than the ${size} offered bytes`);
      body.set(data, received);
      received += data.length;
      timer.refresh();
      if (received < size) return;
      clearTimeout(timer);
      resolve(body);
    });
    socket.send(JSON.stringify({ type: 'continue' }));
  });
}

function onClosed(closed: AbortSignal, end: () => void): void {
  if (closed.aborted) end();
  else closed.addEventListener('abort', end, { once: true });
}
