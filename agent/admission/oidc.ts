import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { JSONWebKeySet, JWTPayload, JWTVerifyGetKey } from 'jose';
import { messageOf, Refused } from '../../protocol/refusal.ts';
import { type Config, ConfigError } from '../config/load.ts';
import { CircuitBreakers, CircuitOpen } from '../outbound/circuit-breaker.ts';
import { refusals } from '../refusals.ts';
import { writeDurably } from '../system/durable-files.ts';

/** What is read of GitHub's token: https://docs.github.com/actions/reference/security/oidc */
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

/** Tokens live up to six hours; one that serves a single command need not. */
const MAX_AGE = '5m';
const SKEW_SECONDS = 60;
const FETCH_TIMEOUT_MS = 5_000;

/** For how long keys from the disk will do while the issuer can't be reached. */
const MAX_STALE_MS = 24 * 3_600_000;

type KeySet = JWTVerifyGetKey & { jwks?: () => JSONWebKeySet | undefined };

/** Keys as they lie in `state_dir`. */
interface CachedKeys {
  issuer: string;
  at: number;
  keys: JSONWebKeySet;
}

/** The issuer of tokens as agent.yaml names it, its keys, and the tokens that have been used. */
export class Issuer {
  readonly #config: Config['oidc'];
  readonly #cache: string;
  readonly #circuits: CircuitBreakers;
  /** Of `jwks_file`. */
  readonly #given: JSONWebKeySet | undefined;
  #keys: KeySet | undefined;
  readonly #used = new Map<string, number>();
  /** What lies in the cache, so that it is written only when it changes. */
  #written = '';

  /** `cache`: the file in which fetched keys are kept. Throws `ConfigError` where `jwks_file` can't be read. */
  constructor(config: Config['oidc'], cache: string, circuits = new CircuitBreakers()) {
    this.#circuits = circuits;
    this.#config = config;
    this.#cache = cache;
    this.#given = config.jwks_file === undefined ? undefined : readKeySet(config.jwks_file);
  }

  #keySet({ createLocalJWKSet, createRemoteJWKSet }: Jose): KeySet {
    const { jwks_url, issuer } = this.#config;
    this.#keys ??= this.#given
      ? createLocalJWKSet(this.#given)
      : createRemoteJWKSet(new URL(jwks_url ?? `${issuer}/.well-known/jwks`), {
          timeoutDuration: FETCH_TIMEOUT_MS,
          // An unknown key id has them fetched again, but not more often than that.
          cooldownDuration: 30_000,
          cacheMaxAge: 600_000,
        });
    return this.#keys;
  }

  /**
   * The claims of a token that serves `audience` alone, once. Throws `Refused`: `token-invalid`, `token-expired`,
   * `token-replayed`, `token-keys-unreachable`.
   */
  async verify(token: string, audience: string): Promise<Claims> {
    const claims = await this.#verifyClaims(token, audience);
    // jose takes a list that holds the audience; a token that serves others as well is not ours.
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
      const kept = await this.#readCachedKeys();
      if (!kept) throw new Refused(refusals.tokenKeysUnreachable(this.#config.issuer, messageOf(error)));
      try {
        return (await jose.jwtVerify<Claims>(token, jose.createLocalJWKSet(kept), rules)).payload;
      } catch (second) {
        throw toTokenRefusal(second, jose);
      }
    }
  }

  /** Fetched keys go to the disk, for times without internet. */
  async #cacheKeys(): Promise<void> {
    const keys = this.#keys?.jwks?.();
    if (!keys || JSON.stringify(keys) === this.#written) return;
    this.#written = JSON.stringify(keys);
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
    for (const [id, until] of this.#used) if (until < now) this.#used.delete(id);
    if (this.#used.has(jti)) throw new Refused(refusals.tokenReplayed());
    this.#used.set(jti, exp);
  }
}

type Jose = typeof import('jose');

/** It takes ten megabytes: a host that sees no tokens does without. */
function loadJose(): Promise<Jose> {
  return import(/* webpackMode: "eager" */ 'jose');
}

/** Throws {@link ConfigError}. */
function readKeySet(file: string): JSONWebKeySet {
  const text = 'Write the issuer’s key set there, as JSON.';
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new ConfigError(`oidc.jwks_file: ${file}: ${messageOf(error)}. ${text}`);
  }
  if (!Array.isArray((value as { keys?: unknown } | null)?.keys))
    throw new ConfigError(`oidc.jwks_file: ${file}: it has no "keys". ${text}`);
  return value as JSONWebKeySet;
}

function isIssuerUnreachable(error: unknown, { errors }: Jose): boolean {
  if (error instanceof errors.JWKSTimeout) return true;
  // What fetch throws, and an answer that is no key set.
  return error instanceof TypeError || (error instanceof errors.JOSEError && error.code === 'ERR_JOSE_GENERIC');
}

function toTokenRefusal(error: unknown, { errors }: Jose): unknown {
  if (error instanceof errors.JWTExpired) return new Refused(refusals.tokenExpired(messageOf(error)));
  if (error instanceof errors.JOSEError) return new Refused(refusals.tokenInvalid(messageOf(error)));
  return error;
}
