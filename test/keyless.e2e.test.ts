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
/** A job that has no signing key, and may ask for a token. */
const keyless = (changes: object = {}) =>
  world.deploy(merge, 'up', { env: issuer.env, inputs: { 'signing-key': '', mode: 'plan' }, ...changes });
const reason = async (changes?: object) => {
  const { outputs, log } = await keyless(changes);
  return outputs.status === 'refused' ? outputs.reason : `${outputs.status}: ${log.slice(-300)}`;
};

describe('a job without a key', () => {
  it('deploys by a token of its own, which is in no log', async () => {
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
  ])('whose %s is another is refused, and one that lacks it too', async (claim, value) => {
    issuer.claims = { sha: merge.sha, [claim]: value };
    expect(await reason()).toBe('token-not-allowed');
    issuer.claims = { sha: merge.sha, [claim]: undefined };
    expect(await reason()).toBe('token-not-allowed');
  });

  it.each([['sha'], ['run_id'], ['run_attempt'], ['repository']])(
    'whose %s is not the command’s is refused',
    async claim => {
      issuer.claims = { sha: merge.sha, [claim]: 'other' };
      expect(await reason()).toBe('token-mismatch');
      issuer.claims = { sha: merge.sha, [claim]: undefined };
      expect(await reason()).toBe('token-mismatch');
    },
  );

  it('does not care what "sub" looks like', async () => {
    issuer.claims = { sha: merge.sha, sub: 'repo:org/homelab:ref:refs/heads/main' };
    expect(await reason()).toMatch(/^planned/);
  });
});

describe('a token', () => {
  const now = () => Math.floor(Date.now() / 1000);
  it.each<[string, () => object, string]>([
    ['that has expired', () => ({ iat: now() - 400, exp: now() - 100 }), 'token-expired'],
    ['that is older than five minutes', () => ({ iat: now() - 3600, exp: now() + 3600 }), 'token-expired'],
    ['that is not valid yet', () => ({ nbf: now() + 600 }), 'token-invalid'],
    ['of another issuer', () => ({ iss: 'https://elsewhere.example' }), 'token-invalid'],
    ['without a number of its own', () => ({ jti: undefined }), 'token-invalid'],
    ['for another audience', () => ({ aud: 'chatops:v1:agent:other:cmd:sha-256:00' }), 'token-invalid'],
  ])('%s is refused', async (_, claims, code) => {
    issuer.claims = { sha: merge.sha, ...claims() };
    expect(await reason()).toBe(code);
  });

  it('for several audiences is refused', async () => {
    issuer.token = audience => issuer.make([audience, 'https://elsewhere.example']);
    expect(await reason()).toBe('token-invalid');
  });

  it('without a signature, by a key that is no secret, or by another key is refused', async () => {
    issuer.token = async audience => new UnsecuredJWT({ aud: audience, repository_id: '7001' }).setIssuedAt().encode();
    expect(await reason()).toBe('token-invalid');
    // The public key taken for a shared secret.
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

  it('serves one command: with another it is refused', async () => {
    let first: string | undefined;
    issuer.token = async audience => (first ??= await issuer.make(audience));
    expect(await reason()).toMatch(/^planned/);
    expect(await reason()).toBe('token-invalid');
  });

  it('that GitHub does not give ends the job', async () => {
    issuer.token = async () => Promise.reject(new Error('no'));
    expect((await keyless()).outputs.reason).toBe('id-token-unavailable');
    expect((await keyless({ env: {} })).outputs.reason).toBe('input-invalid');
  });
});

describe('key and token', () => {
  it('must both hold where an entry names both', async () => {
    await restart({ key: world.host.keys.public, github: GITHUB });
    const both = await world.deploy(merge, 'up', { env: issuer.env, inputs: { mode: 'plan' } });
    expect(both.outputs.status, both.log).toBe('planned');
    const keyOnly = await world.deploy(merge, 'up', { inputs: { mode: 'plan' } });
    expect(keyOnly.outputs.reason).toBe('token-missing');
    expect(await reason()).toBe('token-not-allowed');
    issuer.claims = { sha: merge.sha, repository_id: '7002' };
    const other = await world.deploy(merge, 'up', { env: issuer.env, inputs: { mode: 'plan' } });
    expect(other.outputs.reason).toBe('token-not-allowed');
  });

  it('where an entry names a key only, no token is looked at', async () => {
    await restart({ key: world.host.keys.public });
    issuer.claims = { repository_id: 'anything' };
    const done = await world.deploy(merge, 'up', { env: issuer.env, inputs: { mode: 'plan' } });
    expect(done.outputs.status, done.log).toBe('planned');
    expect(await reason()).toBe('token-not-allowed');
    await world.host.stop();
    await expect(world.host.start({ trust: [entry({})] })).rejects.toThrow(/Expected "key", "github" or both/);
  });
});

describe('the issuer’s keys', () => {
  it('are fetched anew for a key that is not known, but not for each that is made up', async () => {
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

  it('are on the disk for times without internet, and where there are none the command is refused', async () => {
    issuer.header = {};
    await restart();
    expect(await reason()).toMatch(/^planned/);
    await restart(undefined, { jwks_url: 'http://127.0.0.1:9/' });
    expect(await reason()).toMatch(/^planned/);
    writeFileSync(join(world.host.state, 'oidc-keys.json'), '{}');
    await restart(undefined, { jwks_url: 'http://127.0.0.1:9/' });
    expect(await reason()).toBe('token-keys-unreachable');
  });

  it('may be a file', async () => {
    const file = join(world.dir, 'keys.json');
    writeFileSync(file, JSON.stringify(issuer.keySet));
    await restart(undefined, { jwks_url: 'http://127.0.0.1:9/', jwks_file: file });
    expect(await reason()).toMatch(/^planned/);
  });
});
