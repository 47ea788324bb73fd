import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from './stand/host.ts';
import { readPage } from './stand/page.ts';
import type { Finished } from './stand/runner.ts';
import { Vault } from './stand/vault.ts';
import { LABEL } from './stand/world.ts';

let vault: Vault;
let data: string;
let port: number;
beforeAll(async () => {
  vault = new Vault();
  data = join(vault.data, 'www');
  mkdirSync(data);
  write('one');
  port = await freePort();
  await vault.github.start();
  await vault.host.start(policy());
});
afterAll(() => vault[Symbol.asyncDispose]());

const policy = () => ({
  ...vault.policy,
  // Without "/", so that a manifest can name a folder outside of the sources.
  backups: { ...vault.policy.backups, sources: [vault.data] },
  trust: [
    {
      name: 'homelab',
      key: vault.host.keys.public,
      repository: 'org/homelab',
      allow: [{ actions: ['backup', 'rollout', 'rollback'], stacks: ['*'], require_labels: [LABEL] }],
    },
  ],
});
const write = (text: string) => writeFileSync(join(data, 'index.html'), `${text}\n`);
const compose = (version: string) =>
  `services:\n  web:\n    image: chatops-test/web:${version}\n    pull_policy: never\n    init: true\n    stop_grace_period: 1s\n    ports: ["127.0.0.1:${port}:80"]\n    volumes: ["${data}:/www"]\n`;
const BACKUP = () =>
  `label_required: ${LABEL}\naction: backup\nbackup_type: docker_volumes\nsource: ${data}\ndestination: ${vault.nas}\n`;
const rollout = (more: string) => `label_required: ${LABEL}\naction: rollout\nstack: gated\n${more}`;
const says = () => readPage(port);
const outcome = ({ outputs }: Finished) => ({ status: outputs.status, reason: outputs.reason });
const documents = (job: Finished) => JSON.parse(job.outputs.result ?? '').receipts[0].documents;

describe('a rollout that needs a backup', () => {
  it('a rollout does not start if its backup is unknown or too old', async () => {
    vault.stack('gated', { 'compose.yaml': compose('1') });
    const none = await vault.run('up', 'action: rollout\nstack: gated\nneeds: [www]\n');
    expect({ reason: none.reason, isUnknown: none.log.includes('this host knows no verified one') }, none.log).toEqual({
      reason: 'backup-needed',
      isUnknown: true,
    });
    expect((await vault.run('www', BACKUP())).code).toBe(0);
    const old = await vault.run('up', 'action: rollout\nstack: gated\nneeds: [www]\nmax_age: 1ms\n');
    expect({ reason: old.reason, isTooOld: old.log.includes('not older than 1ms') }, old.log).toEqual({
      reason: 'backup-needed',
      isTooOld: true,
    });
    const done = await vault.run('up', 'action: rollout\nstack: gated\nneeds: [www]\nmax_age: 1h\n');
    expect({ exit: done.code, page: await says() }, done.log).toEqual({ exit: 0, page: 'one' });
  });

  it('a rollout starts with the backups of another file and names them, and a rollback restores their data', async () => {
    vault.stack('gated', { 'compose.yaml': compose('2') });
    const files = { 'chatops/intents/www.yaml': BACKUP(), 'chatops/intents/up.yaml': rollout('backup_before: www\n') };
    const up = await vault.deploy(vault.merge(files), 'up');
    expect(outcome(up), up.log).toEqual({ status: 'succeeded', reason: '' });
    const [made, rolled] = documents(up);
    expect({ madeAction: made.action, rolledAction: rolled.action }).toEqual({
      madeAction: 'backup',
      rolledAction: 'rollout',
    });
    expect(rolled.restore_points).toEqual([
      expect.objectContaining({
        kind: 'docker_volumes',
        name: 'www',
        archive: made.backup.archive,
        run: up.outputs['run-id'],
      }),
    ]);
    // The new version corrupts the data.
    write('spoilt');
    const back = await vault.deploy(
      vault.merge({
        'chatops/intents/back.yaml': `label_required: ${LABEL}\naction: rollback\nstack: gated\nrestore_data: true\n`,
      }),
      'back',
    );
    expect({ ...outcome(back), page: await says() }, back.log).toEqual({
      status: 'succeeded',
      reason: '',
      page: 'one',
    });
    expect(documents(back)[0].images[0].reference).toBe('chatops-test/web:1');
    const previousFolder = /the previous content is kept as (\S+)/.exec(back.log)?.[1] ?? '';
    expect(readFileSync(join(previousFolder, 'index.html'), 'utf8')).toBe('spoilt\n');
  });

  it('a rollback restores data only to a source of agent.yaml: a manifest cannot name another place', async () => {
    vault.stack('gated', { 'compose.yaml': compose('2') });
    const files = { 'chatops/intents/www.yaml': BACKUP(), 'chatops/intents/up.yaml': rollout('backup_before: www\n') };
    const up = await vault.deploy(vault.merge(files), 'up');
    expect(outcome(up), up.log).toEqual({ status: 'succeeded', reason: '' });
    const [made] = documents(up);
    const file = `${made.backup.archive}.json`;
    const manifest = JSON.parse(readFileSync(file, 'utf8'));
    const elsewhere = join(vault.dir, 'elsewhere');
    mkdirSync(elsewhere);
    const back = `action: rollback\nstack: gated\nrestore_data: true\n`;
    writeFileSync(file, JSON.stringify({ ...manifest, source: elsewhere }));
    const misled = await vault.run('back', back);
    expect({ reason: misled.reason, entries: readdirSync(elsewhere) }, misled.log).toEqual({
      reason: 'path-outside',
      entries: [],
    });
    writeFileSync(file, JSON.stringify({ ...manifest, snapshot: '--password-command=id' }));
    expect((await vault.run('back', `${back}timeout: 4m\n`)).reason).toBe('backup-broken');
    writeFileSync(file, JSON.stringify(manifest));
  });

  it('a failed rollback leaves the data unchanged', async () => {
    vault.stack('gated', { 'compose.yaml': compose('3') });
    const files = { 'chatops/intents/www.yaml': BACKUP(), 'chatops/intents/up.yaml': rollout('backup_before: www\n') };
    expect(outcome(await vault.deploy(vault.merge(files), 'up'))).toEqual({ status: 'succeeded', reason: '' });
    write('precious');
    const back = await vault.run(
      'back',
      `action: rollback\nstack: gated\nrestore_data: true\nverify: {http: {url: "http://127.0.0.1:${port}/", body: precious, retries: 1}}\n`,
    );
    expect({ reason: back.reason, page: await says() }, back.log).toEqual({
      reason: 'verify-failed',
      page: 'precious',
    });
  });

  it('a rollout does not start if its backup fails or its backup file has no backup', async () => {
    const failing = {
      'chatops/intents/www.yaml': BACKUP().replace(data, join(vault.data, 'gone')),
      'chatops/intents/up.yaml': rollout('backup_before: www\n'),
    };
    const job = await vault.deploy(vault.merge(failing), 'up');
    expect({ ...outcome(job), rollout: documents(job)[1].outcome }, job.log).toEqual({
      status: 'failed',
      reason: 'source-missing',
      rollout: 'skipped',
    });
    const other = {
      'chatops/intents/other.yaml': rollout(''),
      'chatops/intents/up.yaml': rollout('backup_before: other\n'),
    };
    expect(outcome(await vault.deploy(vault.merge(other), 'up'))).toEqual({
      status: 'failed',
      reason: 'backup-needed',
    });
    expect(
      outcome(await vault.deploy(vault.merge({ 'chatops/intents/up.yaml': rollout('backup_before: nosuch\n') }), 'up')),
    ).toEqual({ status: 'refused', reason: 'intent-not-found' });
  });

  it('a rollback cannot restore the data of a rollout that had no backup', async () => {
    vault.stack('plain', { 'compose.yaml': compose('1').replace(/\n {4}ports.*/, '') });
    expect((await vault.run('up', 'action: rollout\nstack: plain\n')).code).toBe(0);
    vault.stack('plain', { 'compose.yaml': compose('2').replace(/\n {4}ports.*/, '') });
    expect((await vault.run('up', 'action: rollout\nstack: plain\n')).code).toBe(0);
    const back = await vault.run('back', 'action: rollback\nstack: plain\nrestore_data: true\n');
    expect(back.reason, back.log).toBe('restore-point-missing');
  });
});
