import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { base64url, SignJWT, UnsecuredJWT } from 'jose';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { IssuerDouble } from './doubles/issuer.ts';
import { LABEL, type Merge, World } from './stand/world.ts';

let world: World;
let issuer: IssuerDouble;
let merge: Merge;
beforeAll(async () => {
  world = new World();
  issuer = await new IssuerDouble().start();
  await world.github.start();
  world.stack('web', {
    'compose.yaml':
      'services:\n  web:\n    image: chatops-test/web:1\n    pull_policy: never\n    init: true\n    stop_grace_period: 0s\n',
  });
  merge = world.merge({ 'chatops/intents/up.yaml': `label_required: ${LABEL}\naction: rollout\nstack: web\n` });
  await world.host.start(policy());
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
  await issuer.stop();
});
beforeEach(() => {
  issuer.claims = { sha: merge.sha };
  issuer.header = {};
  issuer.token = undefined;
});

const GITHUB = {
  repository_id: '7001',
  repository_owner_id: '1',
  ref: 'refs/heads/main',
  event_name: ['push', 'schedule'],
};
const allow = [{ actions: ['rollout'], stacks: ['*'], require_labels: [LABEL] }];
const entry = (more: object) => ({ name: 'homelab', repository: 'org/homelab', allow, ...more });
const policy = (trust: object = { github: GITHUB }, oidc: object = {}) => ({
  oidc: { issuer: issuer.url, ...oidc },
  trust: [entry(trust)],
});
async function restart(...args: Parameters<typeof policy>): Promise<void> {
  await world.host.stop();
  await world.host.start(policy(...args));
}
/** Runs a job without a signing key that may ask for an ID token. */
const keyless = (changes: object = {}) =>
  world.deploy(merge, 'up', { env: issuer.env, inputs: { 'signing-key': '', mode: 'plan' }, ...changes });
const reason = async (changes?: object) => {
  const { outputs, log } = await keyless(changes);
  return outputs.status === 'refused' ? outputs.reason : `${outputs.status}: ${log.slice(-300)}`;
};

describe('a job without a signing key', () => {
  it('deploys with an ID token, which appears in no log', async () => {
    let token = '';
    issuer.token = async audience => {
      token = await issuer.make(audience);
      return token;
    };
    const done = await keyless({ inputs: { 'signing-key': '' } });
    expect({ status: done.outputs.status, reason: done.outputs.reason }, done.log).toEqual({
      status: 'succeeded',
      reason: '',
    });
    expect(done.log.split('\n').filter(line => line.includes(token) && !line.startsWith('::add-mask::'))).toEqual([]);
    expect(await world.host.audit()).toContainEqual(
      expect.objectContaining({ event: 'run-begun', trust: 'homelab', key: 'github:7001' }),
    );
  });

  it.each([
    ['repository_id', '7002'],
    ['repository_owner_id', '2'],
    ['ref', 'refs/heads/other'],
    ['event_name', 'pull_request'],
  ])('refuses a token whose %s is missing or differs from the trust entry’s', async (claim, value) => {
    issuer.claims = { sha: merge.sha, [claim]: value };
    expect(await reason()).toBe('token-not-allowed');
    issuer.claims = { sha: merge.sha, [claim]: undefined };
    expect(await reason()).toBe('token-not-allowed');
  });

  it.each([['sha'], ['run_id'], ['run_attempt'], ['repository']])(
    'refuses a token whose %s is missing or differs from the command’s',
    async claim => {
      issuer.claims = { sha: merge.sha, [claim]: 'other' };
      expect(await reason()).toBe('token-mismatch');
      issuer.claims = { sha: merge.sha, [claim]: undefined };
      expect(await reason()).toBe('token-mismatch');
    },
  );

  it('accepts any form of the claim "sub"', async () => {
    issuer.claims = { sha: merge.sha, sub: 'repo:org/homelab:ref:refs/heads/main' };
    expect(await reason()).toMatch(/^planned/);
  });
});

describe('an ID token', () => {
  const now = () => Math.floor(Date.now() / 1000);
  it.each<[string, () => object, string]>([
    ['that has expired', () => ({ iat: now() - 400, exp: now() - 100 }), 'token-expired'],
    ['older than five minutes', () => ({ iat: now() - 3600, exp: now() + 3600 }), 'token-expired'],
    ['that is not valid yet', () => ({ nbf: now() + 600 }), 'token-invalid'],
    ['from another issuer', () => ({ iss: 'https://elsewhere.example' }), 'token-invalid'],
    ['without an identifier of its own', () => ({ jti: undefined }), 'token-invalid'],
    ['for another audience', () => ({ aud: 'chatops:v1:agent:other:cmd:sha-256:00' }), 'token-invalid'],
  ])('refuses a token %s', async (_, claims, code) => {
    issuer.claims = { sha: merge.sha, ...claims() };
    expect(await reason()).toBe(code);
  });

  it('refuses a token for several audiences', async () => {
    issuer.token = audience => issuer.make([audience, 'https://elsewhere.example']);
    expect(await reason()).toBe('token-invalid');
  });

  it('refuses a token without a signature, signed with the public key, or signed with an unknown key', async () => {
    issuer.token = async audience => new UnsecuredJWT({ aud: audience, repository_id: '7001' }).setIssuedAt().encode();
    expect(await reason()).toBe('token-invalid');
    // The public key serves as a shared secret.
    issuer.token = async audience => {
      const secret = base64url.decode(base64url.encode(JSON.stringify(issuer.keySet.keys[0])));
      return new SignJWT({ sha: merge.sha, repository_id: '7001' })
        .setProtectedHeader({ alg: 'HS256', kid: 'one' })
        .setAudience(audience)
        .setIssuedAt()
        .sign(secret);
    };
    expect(await reason()).toBe('token-invalid');
    const stranger = await new IssuerDouble().start();
    stranger.claims = { iss: issuer.url, sha: merge.sha };
    issuer.token = audience => stranger.make(audience);
    expect(await reason()).toBe('token-invalid');
    await stranger.stop();
  });

  it('refuses a token that another command has used', async () => {
    // A plan sends two commands: it asks for the last deployment before.
    const used: string[] = [];
    let asked = 0;
    issuer.token = async audience => {
      if (used.length < 2) used.push(await issuer.make(audience));
      return used[asked++ % 2] ?? '';
    };
    expect(await reason()).toMatch(/^planned/);
    expect(await reason()).toBe('token-invalid');
  });

  it('ends the job if GitHub does not issue a token', async () => {
    issuer.token = async () => Promise.reject(new Error('no'));
    expect((await keyless()).outputs.reason).toBe('id-token-unavailable');
    expect((await keyless({ env: {} })).outputs.reason).toBe('input-invalid');
  });
});

describe('a trust entry that names a key, a token or both', () => {
  it('requires the key and the token if the entry names both', async () => {
    await restart({ key: world.host.keys.public, github: GITHUB });
    const both = await world.deploy(merge, 'up', { env: issuer.env, inputs: { mode: 'plan' } });
    expect(both.outputs.status, both.log).toBe('planned');
    const keyOnly = await world.deploy(merge, 'up', { inputs: { mode: 'plan' } });
    expect(keyOnly.outputs.reason).toBe('token-missing');
    expect(await reason()).toBe('signature-invalid');
    issuer.claims = { sha: merge.sha, repository_id: '7002' };
    const other = await world.deploy(merge, 'up', { env: issuer.env, inputs: { mode: 'plan' } });
    expect(other.outputs.reason).toBe('token-not-allowed');
  });

  it('ignores the token if the entry names only a key', async () => {
    await restart({ key: world.host.keys.public });
    issuer.claims = { repository_id: 'anything' };
    const done = await world.deploy(merge, 'up', { env: issuer.env, inputs: { mode: 'plan' } });
    expect(done.outputs.status, done.log).toBe('planned');
    expect(await reason()).toBe('signature-invalid');
    await world.host.stop();
    await expect(world.host.start({ trust: [entry({})] })).rejects.toThrow(/Expected "key", "github" or both/);
  });
});

describe('the keys of the token issuer', () => {
  it('fetches the issuer’s keys again for an unknown key, but not for each invented one', async () => {
    await restart();
    expect(await reason()).toMatch(/^planned/);
    await restart();
    const before = issuer.fetched;
    for (const kid of ['a', 'b', 'c']) {
      issuer.header = { kid };
      expect(await reason()).toBe('token-invalid');
    }
    expect(issuer.fetched - before).toBeLessThanOrEqual(1);
  });

  it('reads the issuer’s keys from disk without internet, and refuses the command if it has none', async () => {
    issuer.header = {};
    await restart();
    expect(await reason()).toMatch(/^planned/);
    await restart(undefined, { jwks_url: 'http://127.0.0.1:9/' });
    expect(await reason()).toMatch(/^planned/);
    writeFileSync(join(world.host.state, 'oidc-keys.json'), '{}');
    await restart(undefined, { jwks_url: 'http://127.0.0.1:9/' });
    expect(await reason()).toBe('token-keys-unreachable');
  });

  it('reads the issuer’s keys from a configured file', async () => {
    const file = join(world.dir, 'keys.json');
    writeFileSync(file, JSON.stringify(issuer.keySet));
    await restart(undefined, { jwks_url: 'http://127.0.0.1:9/', jwks_file: file });
    expect(await reason()).toMatch(/^planned/);
  });
});
