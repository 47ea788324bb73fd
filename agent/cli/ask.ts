import { existsSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Config, readConfig } from '../config.ts';
import { SOCKET } from '../local.ts';

/** Options of every command that speaks with the agent of this host. */
export const AGENT_OPTIONS = {
  config: { type: 'string', default: '/etc/chatops/agent.yaml' },
  socket: { type: 'string' },
  json: { type: 'boolean', default: false },
} as const;

/** The agent said no, or can't be reached. */
export class AgentSays extends Error {
  override name = 'AgentSays';
}

/** The agent's socket: named, or where agent.yaml says. */
export function socketOf(values: { config: string; socket?: string | undefined }): string {
  if (values.socket !== undefined) return values.socket;
  const known = existsSync(values.config)
    ? readConfig(values.config).state_dir
    : Config.shape.state_dir.parse(undefined);
  return join(known, SOCKET);
}

/** Asks the agent and returns its answer, parsed. Throws {@link AgentSays}. */
export async function ask<T>(socket: string, method: 'GET' | 'POST', path: string, body?: object): Promise<T> {
  const response = await open(socket, method, path, body);
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return JSON.parse(text) as T;
}

/** Asks the agent for JSON lines, and yields each as it comes. Throws {@link AgentSays}. */
export async function* lines<T>(socket: string, path: string): AsyncGenerator<T> {
  const response = await open(socket, 'GET', path);
  for await (const line of createInterface(response)) yield JSON.parse(line) as T;
}

function open(socket: string, method: string, path: string, body?: object): Promise<IncomingMessage> {
  return new Promise((done, fail) => {
    const asked = request({ socketPath: socket, method, path, headers: { host: 'agent' } }, response => {
      if ((response.statusCode ?? 0) < 300) return done(response);
      let text = '';
      response.setEncoding('utf8').on('data', chunk => {
        text += chunk;
      });
      response.on('end', () => fail(new AgentSays(refusalOf(text))));
    });
    asked.on('error', error =>
      fail(
        new AgentSays(
          `agent-unreachable: the agent does not answer at ${socket}: ${error.message}. Start it, name its configuration with --config, and run this as its user or root.`,
        ),
      ),
    );
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

function refusalOf(text: string): string {
  try {
    const { code, message, remedy } = JSON.parse(text) as { code?: string; message: string; remedy?: string };
    return `${code === undefined ? '' : `${code}: `}${message}${remedy === undefined ? '' : ` ${remedy}`}`;
  } catch {
    return text;
  }
}
