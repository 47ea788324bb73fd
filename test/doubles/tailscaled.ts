import { once } from 'node:events';
import { createServer, type Server } from 'node:http';

/** Stands in for tailscaled's local API on its socket: `whois` in the shape that tailscale's client documents. */
export class TailscaledDouble {
  readonly socket: string;
  /** Answer to the next requests; `null` means that the address is not a node of the tailnet. */
  answer: object | string | null = null;
  status = 200;
  /** Leaves all requests without an answer. */
  hangs = false;
  readonly asked: { path: string; host: string | undefined }[] = [];
  #server: Server | undefined;

  constructor(socket: string) {
    this.socket = socket;
  }

  async start(): Promise<this> {
    this.#server = createServer((request, response) => {
      this.asked.push({ path: request.url ?? '', host: request.headers.host });
      if (this.hangs) return;
      if (this.answer === null) return void response.writeHead(404).end('no match for IP:port\n');
      response.writeHead(this.status, { 'Content-Type': 'application/json' });
      response.end(typeof this.answer === 'string' ? this.answer : JSON.stringify(this.answer));
    }).listen(this.socket);
    await once(this.#server, 'listening');
    return this;
  }

  async stop(): Promise<void> {
    this.#server?.closeAllConnections();
    this.#server?.close();
    if (this.#server) await once(this.#server, 'close');
  }
}

/** Returns a node with tags. It has no owner, so tailscaled shows the stand-in profile `tagged-devices`. */
export const tagged = (tags: string[], capabilities: Record<string, unknown[]> = {}) => ({
  Node: { ID: 1, StableID: 'nSTABLE', Name: 'runner-1.tail1234.ts.net.', Tags: tags, Addresses: ['100.64.0.9/32'] },
  UserProfile: { ID: 2, LoginName: 'tagged-devices', DisplayName: 'Tagged Devices' },
  CapMap: capabilities,
});

/** Returns a node of a user. */
export const owned = (login: string) => ({
  Node: { ID: 1, StableID: 'nSTABLE', Name: 'laptop.tail1234.ts.net.', Tags: null },
  UserProfile: { ID: 3, LoginName: login, DisplayName: login },
  CapMap: null,
});
