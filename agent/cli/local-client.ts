import { existsSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { messageOf, Refusal, Refused } from '../../protocol/refusal.ts';
import { Config, readConfig } from '../config/load.ts';
import { openRequest, readBody } from '../outbound/http-request.ts';
import { SOCKET } from '../server/local-api.ts';
import { cliRefusals } from './refusals.ts';

/** The longest refusal that the command line reads, in bytes. */
const MAX_REFUSAL_BYTES = 1024 * 1024;

/** Returns the socket that the user names, or else that of agent.yaml. */
export function findSocket(values: { config: string; socket?: string | undefined }): string {
  if (values.socket !== undefined) return values.socket;
  const stateFolder = existsSync(values.config)
    ? readConfig(values.config).state_dir
    : Config.shape.state_dir.parse(undefined);
  return join(stateFolder, SOCKET);
}

/** Sends a request to the agent of this host and returns its answer, parsed. Throws `Refused`. */
export async function requestAgent<T>(socket: string, method: 'GET' | 'POST', path: string, body?: object): Promise<T> {
  const response = await openAnswer(socket, method, path, body);
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return JSON.parse(text) as T;
}

/** Requests JSON lines from the agent of this host and yields each when it arrives. Throws `Refused`. */
export async function* requestLines<T>(socket: string, path: string): AsyncGenerator<T> {
  const response = await openAnswer(socket, 'GET', path);
  for await (const line of createInterface(response)) yield JSON.parse(line) as T;
}

async function openAnswer(socket: string, method: string, path: string, body?: object): Promise<IncomingMessage> {
  let response: IncomingMessage;
  try {
    const content = body === undefined ? undefined : JSON.stringify(body);
    response = await openRequest({ url: `http://agent${path}`, socketPath: socket, method, body: content });
  } catch (error) {
    throw cliRefusals.agentUnreachable(socket, messageOf(error));
  }
  if ((response.statusCode ?? 0) < 300) return response;
  throw readRefusal(String(await readBody(response, MAX_REFUSAL_BYTES)));
}

/** Returns the refusal in an answer, or an error with its text. */
function readRefusal(text: string): Error {
  try {
    return new Refused(Refusal.parse(JSON.parse(text)));
  } catch {
    return new Error(text.trim());
  }
}
