import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from './stand/host.ts';
import { readPage } from './stand/page.ts';
import type { Finished } from './stand/runner.ts';
import { LABEL, World } from './stand/world.ts';

let world: World;
let nas: string;
let data: string;
let port: number;
beforeAll(async () => {
  world = new World({ allow: [{ actions: ['backup', 'restore', 'rollout'], stacks: ['*'], require_labels: [LABEL] }] });
  nas = join(world.dir, 'nas');
  data = join(world.dir, 'data', 'www');
  for (const folder of [nas, data]) mkdirSync(folder, { recursive: true });
  await world.github.start();
  await world.host.start({
    backups: { sources: [join(world.dir, 'data')], destinations: [{ path: nas, min_free: '1MiB' }] },
  });
  port = await freePort();
  world.stack('restore-web', {
    'compose.yaml': `services:\n  web:\n    image: chatops-test/web:1\n    pull_policy: never\n    init: true\n    stop_grace_period: 1s\n    ports: ["127.0.0.1:${port}:80"]\n    volumes: ["${data}:/www"]\n`,
  });
  write('one');
  const up = await job('action: rollout\nstack: restore-web\n');
  if (up.outputs.status !== 'succeeded') throw new Error(up.log);
});
afterAll(() => world[Symbol.asyncDispose]());

function write(text: string): void {
  writeFileSync(join(data, 'index.html'), `${text}\n`);
}
function job(intent: string): Promise<Finished> {
  return world.deploy(world.merge({ 'chatops/intents/www.yaml': `label_required: ${LABEL}\n${intent}` }), 'www');
}
const backup = () => job(`action: backup\nbackup_type: docker_volumes\nsource: ${data}\ndestination: ${nas}\n`);
const restore = (more = '') =>
  job(`action: restore\nof: www\nfrom: ${nas}\nto: ${data}\nstack: restore-web\nstop_services: [web]\n${more}`);
const outcome = ({ outputs }: Finished) => ({ status: outputs.status, reason: outputs.reason });
const says = () => readPage(port);
const snapshots = () =>
  readdirSync(join(nas, 'www'))
    .filter(name => /^\d{8}T[\d.]+Z$/.test(name))
    .sort();

describe('a restore', () => {
  it('restores the newest or a named backup, keeps the replaced data, and the application answers', async () => {
    const first = await backup();
    write('two');
    await backup();
    write('broken');
    const refused = await restore();
    expect({ ...outcome(refused), page: await says() }, refused.log).toEqual({
      status: 'failed',
      reason: 'overwrite-unconfirmed',
      page: 'broken',
    });
    const newest = await restore(
      `confirm_overwrite: true\nverify: {http: {url: "http://127.0.0.1:${port}/", body: two}}\n`,
    );
    expect({ ...outcome(newest), page: await says() }, newest.log).toEqual({
      status: 'succeeded',
      reason: '',
      page: 'two',
    });
    const kept = readdirSync(join(data, '..')).filter(name => name.startsWith('www.before-'));
    expect(kept.map(name => readFileSync(join(data, '..', name, 'index.html'), 'utf8'))).toEqual(['broken\n']);
    const earlier = await restore(`confirm_overwrite: true\nat: ${first.outputs['run-id']}\n`);
    expect({ ...outcome(earlier), page: await says() }, earlier.log).toEqual({
      status: 'succeeded',
      reason: '',
      page: 'one',
    });
    const elsewhere = join(world.dir, 'data', 'elsewhere');
    const other = await job(`action: restore\nof: www\nfrom: ${nas}\nto: ${elsewhere}\nat: ${snapshots()[1]}\n`);
    expect({ ...outcome(other), content: readFileSync(join(elsewhere, 'index.html'), 'utf8') }, other.log).toEqual({
      status: 'succeeded',
      reason: '',
      content: 'two\n',
    });
  });

  it('rolls a restore back when its check fails, and the application serves the previous data again', async () => {
    write('precious');
    const done = await restore(
      `confirm_overwrite: true\nverify: {http: {url: "http://127.0.0.1:${port}/", body: precious, retries: 1}}\n`,
    );
    expect({ ...outcome(done), page: await says() }, done.log).toEqual({
      status: 'rolled-back',
      reason: 'verify-failed',
      page: 'precious',
    });
  });

  it('fails a restore of a changed backup and of an unknown backup', async () => {
    const file = join(nas, 'www', snapshots().at(-1) ?? '', 'index.html');
    writeFileSync(file, 'twO\n');
    const flipped = await restore('confirm_overwrite: true\n');
    expect({ ...outcome(flipped), page: await says() }, flipped.log).toEqual({
      status: 'failed',
      reason: 'backup-broken',
      page: 'precious',
    });
    expect(outcome(await restore('confirm_overwrite: true\nat: 20200101T000000.000Z\n'))).toEqual({
      status: 'failed',
      reason: 'backup-unknown',
    });
  });

  it('finishes a restore after the agent was killed in the middle', async () => {
    const good = snapshots()[0];
    let killed = false;
    const merge = world.merge({
      'chatops/intents/www.yaml': `label_required: ${LABEL}\naction: restore\nof: www\nfrom: ${nas}\nto: ${data}\nat: ${good}\nstack: restore-web\nstop_services: [web]\nconfirm_overwrite: true\n`,
    });
    const done = await world.deploy(merge, 'www', {
      onLog: chunk => {
        if (killed || !chunk.includes('::group::stop\n')) return;
        killed = true;
        void world.host.stop('SIGKILL').then(() =>
          world.host.start({
            backups: { sources: [join(world.dir, 'data')], destinations: [{ path: nas, min_free: '1MiB' }] },
          }),
        );
      },
    });
    expect({ killed, ...outcome(done), page: await says() }, done.log).toEqual({
      killed: true,
      status: 'succeeded',
      reason: '',
      page: 'one',
    });
    expect(readdirSync(join(data, '..')).filter(name => name.includes('restoring'))).toEqual([]);
  });

  it('refuses to restore to a path outside the allowed folders', async () => {
    const outside = await job(`action: restore\nof: www\nfrom: ${nas}\nto: /etc/restored\n`);
    expect({ ...outcome(outside), exists: existsSync('/etc/restored') }).toEqual({
      status: 'refused',
      reason: 'path-outside',
      exists: false,
    });
  });
});
