import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { JSONWebKeySet, JWTPayload, JWTVerifyGetKey } from 'jose';
import { messageOf, Refused } from '../../protocol/refusal.ts';
import { type Config, ConfigError } from '../config/load.ts';
import { CircuitBreakers, CircuitOpen } from '../outbound/circuit-breaker.ts';
import { refusals } from '../refusals.ts';
import { writeDurably } from '../system/durable-files.ts';

/** The claims of a GitHub token that the agent reads: https://docs.github.com/actions/reference/security/oidc */
export interface Claims extends JWTPayload {
  repository?: string;
  repository_id?: string;
  repository_owner_id?: string;
  ref?: string;
  sha?: string;
  event_name?: string;
  environment?: string;
  job_workflow_ref?: string;
  workflow_ref?: string;
  run_id?: string;
  run_attempt?: string;
  actor_id?: string;
  actor?: string;
}

/** Tokens are valid for up to six hours, but a token serves one command only. */
const MAX_AGE = '5m';
const SKEW_SECONDS = 60;
const FETCH_TIMEOUT_MS = 5_000;

/** The longest time for which keys from the disk are used while the issuer is not reachable. */
const MAX_STALE_MS = 24 * 3_600_000;

type KeySet = JWTVerifyGetKey & { jwks?: () => JSONWebKeySet | undefined };

/** Keys as they are stored in `state_dir`. */
interface CachedKeys {
  issuer: string;
  at: number;
  keys: JSONWebKeySet;
}

/** The issuer of tokens that agent.yaml names, its keys, and the tokens that were used. */
export class Issuer {
  readonly #config: Config['oidc'];
  readonly #cache: string;
  readonly #circuits: CircuitBreakers;
  /** Keys of `jwks_file`. */
  readonly #pinnedKeys: JSONWebKeySet | undefined;
  #keys: KeySet | undefined;
  readonly #usedTokens = new Map<string, number>();
  /** The keys in the cache file, which is written only when they change. */
  #savedKeys = '';

  /** `cache`: the file for fetched keys. Throws `ConfigError` if `jwks_file` is not readable. */
  constructor(config: Config['oidc'], cache: string, circuits = new CircuitBreakers()) {
    this.#circuits = circuits;
    this.#config = config;
    this.#cache = cache;
    this.#pinnedKeys = config.jwks_file === undefined ? undefined : readKeySet(config.jwks_file);
  }

  #keySet({ createLocalJWKSet, createRemoteJWKSet }: Jose): KeySet {
    const { jwks_url, issuer } = this.#config;
    this.#keys ??= this.#pinnedKeys
      ? createLocalJWKSet(this.#pinnedKeys)
      : createRemoteJWKSet(new URL(jwks_url ?? `${issuer}/.well-known/jwks`), {
          timeoutDuration: FETCH_TIMEOUT_MS,
          // An unknown key id makes jose fetch the keys again, at most this often.
          cooldownDuration: 30_000,
          cacheMaxAge: 600_000,
        });
    return this.#keys;
  }

  /**
   * Returns the claims of a token that is for `audience` alone, once. Throws `Refused`: `token-invalid`, `token-expired`,
   * `token-replayed`, `token-keys-unreachable`.
   */
  async verify(token: string, audience: string): Promise<Claims> {
    const claims = await this.#verifyClaims(token, audience);
    // jose accepts a list that contains the audience; we refuse a token that serves other audiences as well.
    if (claims.aud !== audience) throw new Refused(refusals.tokenInvalid('it is for several audiences'));
    this.#claimToken(claims);
    return claims;
  }

  async #verifyClaims(token: string, audience: string): Promise<Claims> {
    const rules = {
      algorithms: ['RS256'],
      issuer: this.#config.issuer,
      audience,
      maxTokenAge: MAX_AGE,
      clockTolerance: SKEW_SECONDS,
      requiredClaims: ['jti', 'exp', 'iat'],
    };
    const jose = await loadJose();
    try {
      const { payload } = await this.#circuits.execute(
        'oidc',
        () => jose.jwtVerify<Claims>(token, this.#keySet(jose), rules),
        error => isIssuerUnreachable(error, jose),
      );
      await this.#cacheKeys();
      return payload;
    } catch (error) {
      if (!(error instanceof CircuitOpen || isIssuerUnreachable(error, jose))) throw toTokenRefusal(error, jose);
      const cached = await this.#readCachedKeys();
      if (!cached) throw new Refused(refusals.tokenKeysUnreachable(this.#config.issuer, messageOf(error)));
      try {
        return (await jose.jwtVerify<Claims>(token, jose.createLocalJWKSet(cached), rules)).payload;
      } catch (second) {
        throw toTokenRefusal(second, jose);
      }
    }
  }

  /** Writes fetched keys to the disk, for times without internet. */
  async #cacheKeys(): Promise<void> {
    const keys = this.#keys?.jwks?.();
    if (!keys || JSON.stringify(keys) === this.#savedKeys) return;
    this.#savedKeys = JSON.stringify(keys);
    const text = JSON.stringify({ issuer: this.#config.issuer, at: Date.now(), keys } satisfies CachedKeys);
    await writeDurably(this.#cache, text).catch(() => undefined);
  }

  async #readCachedKeys(): Promise<JSONWebKeySet | undefined> {
    try {
      const { issuer, at, keys } = JSON.parse(await readFile(this.#cache, 'utf8')) as CachedKeys;
      const age = Date.now() - at;
      return issuer === this.#config.issuer && age >= 0 && age < MAX_STALE_MS ? keys : undefined;
    } catch {
      return undefined;
    }
  }

  #claimToken({ jti = '', exp = 0 }: Claims): void {
    const now = Date.now() / 1000 - SKEW_SECONDS;
    for (const [id, until] of this.#usedTokens) if (until < now) this.#usedTokens.delete(id);
    if (this.#usedTokens.has(jti)) throw new Refused(refusals.tokenReplayed());
    this.#usedTokens.set(jti, exp);
  }
}

type Jose = typeof import('jose');

/** Loads jose only when a token arrives: it uses ten megabytes. */
function loadJose(): Promise<Jose> {
  return import(/* webpackMode: "eager" */ 'jose');
}

/** Throws {@link ConfigError}. */
function readKeySet(file: string): JSONWebKeySet {
  const remedy = 'Write the key set of the issuer to this file, as JSON.';
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new ConfigError(`oidc.jwks_file: ${file}: ${messageOf(error)}. ${remedy}`);
  }
  if (!Array.isArray((value as { keys?: unknown } | null)?.keys))
    throw new ConfigError(`oidc.jwks_file: ${file}: it has no "keys". ${remedy}`);
  return value as JSONWebKeySet;
}

function isIssuerUnreachable(error: unknown, { errors }: Jose): boolean {
  if (error instanceof errors.JWKSTimeout) return true;
  // fetch throws a TypeError; ERR_JOSE_GENERIC means that the answer is not a key set.
  return error instanceof TypeError || (error instanceof errors.JOSEError && error.code === 'ERR_JOSE_GENERIC');
}

function toTokenRefusal(error: unknown, { errors }: Jose): unknown {
  if (error instanceof errors.JWTExpired) return new Refused(refusals.tokenExpired(messageOf(error)));
  if (error instanceof errors.JOSEError) return new Refused(refusals.tokenInvalid(messageOf(error)));
  return error;
}
