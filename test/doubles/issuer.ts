import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type CryptoKey, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';

/** Stands in for GitHub's token issuer: its key set, and the endpoint that gives a job a token for an audience. */
export class IssuerDouble {
  #server: Server | undefined;
  #keys: { kid: string; secret: CryptoKey; jwk: object }[] = [];
  port = 0;
  /** Number of requests for the key set, and of all requests. */
  fetched = 0;
  requested = 0;
  /** Claims that replace the usual ones in the next tokens; undefined removes a claim. */
  claims: Record<string, unknown> = {};
  header: Record<string, unknown> = {};
  /** Replaces `make` for the next tokens. */
  token: ((audience: string) => Promise<string>) | undefined;

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Environment of a job with `id-token: write`. */
  get env(): Record<string, string> {
    return { ACTIONS_ID_TOKEN_REQUEST_URL: `${this.url}/token?api-version=2`, ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'job' };
  }

  async start(): Promise<this> {
    if (this.#keys.length === 0) await this.rotate('one');
    this.#server = createServer((request, response) => {
      this.#answer(request).then(
        body => response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(body)),
        () => response.writeHead(404).end('{}'),
      );
    }).listen(this.port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.port = (this.#server.address() as AddressInfo).port;
    return this;
  }

  async stop(): Promise<void> {
    this.#server?.closeAllConnections();
    this.#server?.close();
  }

  /** Adds a key that signs all later tokens. */
  async rotate(kid: string): Promise<void> {
    const { privateKey, publicKey } = await generateKeyPair('RS256', { extractable: true });
    this.#keys.unshift({
      kid,
      secret: privateKey,
      jwk: { ...(await exportJWK(publicKey)), kid, alg: 'RS256', use: 'sig' },
    });
  }

  get keySet() {
    return { keys: this.#keys.map(({ jwk }) => jwk) };
  }

  async make(audience: string | string[]): Promise<string> {
    const now = Math.floor(Date.now() / 1000);
    const [key] = this.#keys;
    if (!key) throw new Error('No key');
    const all: Record<string, unknown> = {
      ...{ iss: this.url, aud: audience, jti: `${now}-${Math.random()}`, iat: now, nbf: now, exp: now + 300 },
      ...{ sub: 'repo:org@1/homelab@7001:ref:refs/heads/main', repository: 'org/homelab', repository_id: '7001' },
      ...{ repository_owner_id: '1', ref: 'refs/heads/main', event_name: 'push', run_id: '42', run_attempt: '1' },
      ...{ actor_id: '583231', workflow_ref: 'org/homelab/.github/workflows/deploy.yml@refs/heads/main' },
      ...this.claims,
    };
    const claims = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as JWTPayload;
    return new SignJWT(claims)
      .setProtectedHeader({ alg: 'RS256', kid: key.kid, typ: 'JWT', ...this.header })
      .sign(key.secret);
  }

  async #answer(request: IncomingMessage): Promise<object> {
    this.requested++;
    const url = new URL(request.url ?? '/', this.url);
    if (url.pathname === '/.well-known/jwks') {
      this.fetched++;
      return this.keySet;
    }
    if (url.pathname !== '/token' || request.headers.authorization !== 'Bearer job') throw new Error('no');
    const audience = url.searchParams.get('audience') ?? '';
    return { value: await (this.token?.(audience) ?? this.make(audience)) };
  }
}
