import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

export type Mode = 'whole' | 'unplugged' | 'half-open' | 'slow' | 'one byte at a time';

/** A virtual cable between an action and an agent: a TCP proxy on loopback that can be pulled, frozen and throttled. */
export class Cable {
  mode: Mode = 'whole';
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(agentPort: () => number) {
    this.#server = createServer(near => {
      if (this.mode === 'unplugged') {
        near.destroy();
        return;
      }
      const far = connect(agentPort(), '127.0.0.1');
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(from);
        from.on('data', chunk => void this.#pass(from, to, chunk));
        from.on('error', () => undefined);
        from.on('close', () => {
          this.#sockets.delete(from);
          if (this.mode !== 'half-open') to.destroy();
        });
      }
    });
  }

  async start(): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  get url(): string {
    const address = this.#server.address();
    if (!address || typeof address === 'string') throw new Error('The cable is not listening. Start it first.');
    return `ws://127.0.0.1:${address.port}`;
  }

  /** Closes every connection. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    this.cut();
    const closed = once(this.#server, 'close');
    this.#server.close();
    await closed;
  }

  async #pass(from: Socket, to: Socket, chunk: Buffer): Promise<void> {
    switch (this.mode) {
      case 'half-open':
        return;
      case 'slow':
        from.pause();
        await new Promise(next => setTimeout(next, 50));
        to.write(chunk);
        from.resume();
        return;
      case 'one byte at a time':
        from.pause();
        to.setNoDelay(true);
        for (const byte of chunk.subarray(0, 200)) {
          to.write(Buffer.of(byte));
          await new Promise(next => setImmediate(next));
        }
        to.write(chunk.subarray(200));
        from.resume();
        return;
      default:
        to.write(chunk);
    }
  }
}
