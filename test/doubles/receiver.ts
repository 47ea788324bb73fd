import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Received {
  method: string;
  path: string;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

/** Stands in for a receiver of notices: answers with the configured status, or never. */
export class Receiver {
  readonly got: Received[] = [];
  status = 200;
  headers: Record<string, string> = {};
  hangs = false;
  #server: Server | undefined;

  get url(): string {
    return `http://127.0.0.1:${(this.#server?.address() as AddressInfo | null)?.port ?? 0}`;
  }

  async start(): Promise<this> {
    this.#server = createServer((request, response) => {
      let body = '';
      request.on('data', chunk => {
        body += String(chunk);
      });
      request.on('end', () => {
        this.got.push({ method: request.method ?? '', path: request.url ?? '', headers: request.headers, body });
        if (!this.hangs) response.writeHead(this.status, this.headers).end('{}');
      });
    }).listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  stop(): void {
    this.#server?.closeAllConnections();
    this.#server?.close();
  }
}
