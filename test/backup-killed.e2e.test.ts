import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PLEX_DATABASES, plexImage, postgresImage } from './stand/images.ts';
import { eventually, Vault } from './stand/vault.ts';
import { docker, LABEL } from './stand/world.ts';

let vault: Vault;
let plex: string;
let server: string;
beforeAll(async () => {
  vault = new Vault();
  mkdirSync(join(vault.data, 'config'));
  plex = vault.container('chatops-killed-plex', '--volume', `${vault.data}/config:/config`, plexImage());
  server = vault.container('chatops-killed-pg', postgresImage());
  await vault.github.start();
  await vault.host.start(policy());
  await eventually(() => docker('exec', server, 'pg_isready', '--host', '127.0.0.1'));
  docker('exec', server, 'psql', '-U', 'postgres', '-qc', 'CREATE TABLE t AS SELECT generate_series(1, 300000) AS n');
  await eventually(() => expect(readdirSync(databases())).toContain('com.plexapp.plugins.library.blobs.db'));
});
afterAll(() => vault[Symbol.asyncDispose]());

const databases = () => join(vault.data, 'config', PLEX_DATABASES.slice('/config/'.length));
const policy = () => ({
  ...vault.policy,
  trust: [
    {
      name: 'homelab',
      key: vault.host.keys.public,
      repository: 'org/homelab',
      allow: [{ actions: ['backup'], stacks: ['*'], require_labels: [LABEL] }],
    },
  ],
});

/** Deploys an intent, and kills and restarts the agent at the first output of that step. */
async function killedIn(step: string, name: string, intent: string) {
  let killed = false;
  const merge = vault.merge({
    [`chatops/intents/${name}.yaml`]: `label_required: ${LABEL}\naction: backup\n${intent}`,
  });
  const job = await vault.deploy(merge, name, {
    onLog: chunk => {
      if (killed || !chunk.includes(`::group::${step}\n`)) return;
      killed = true;
      void vault.host.stop('SIGKILL').then(() => vault.host.start(policy()));
    },
  });
  expect({ killed, status: job.outputs.status, reason: job.outputs.reason }, job.log).toEqual({
    killed: true,
    status: 'succeeded',
    reason: '',
  });
}

describe('an agent that is killed', () => {
  it.each(['copy library', 'pack', 'unpack', 'check library', 'read back'])(
    'finishes a backup of Plex after a kill in the step "%s", and leaves nothing else',
    async step => {
      await killedIn(step, 'px', `database_type: plex\nsource_container: ${plex}\ndestination: ${vault.nas}\n`);
      const name = vault.kept('px').at(-1) ?? '';
      execFileSync('tar', ['--test-label', '--file', join(vault.nas, 'px', name)]);
      expect({
        leftovers: vault.leftovers('px'),
        temporaryFiles: readdirSync(databases()).filter(file => file.includes('chatops')),
      }).toEqual({ leftovers: [], temporaryFiles: [] });
    },
  );

  it.each(['dump', 'check', 'start a throw-away server', 'load', 'read back', 'prune'])(
    'finishes a backup of PostgreSQL after a kill in the step "%s", and leaves nothing else',
    async step => {
      await killedIn(
        step,
        'pg',
        `database_type: postgres\nsource_container: ${server}\ndatabase: postgres\ndestination: ${vault.nas}\nverify_level: drill\n`,
      );
      const dump = join(vault.nas, 'pg', vault.kept('pg').at(-1) ?? '', 'postgres.dump');
      expect(execFileSync('pg_restore', ['--file=-', dump], { encoding: 'utf8', maxBuffer: 2 ** 26 })).toContain(
        '\n300000\n',
      );
      expect({
        leftovers: vault.leftovers('pg'),
        drillContainers: docker(
          'ps',
          '--all',
          '--quiet',
          '--filter',
          'label=chatops=drill',
          '--filter',
          'ancestor=chatops-test/postgres:1',
        ),
      }).toEqual({ leftovers: [], drillContainers: '' });
    },
  );
});

describe('a read-only destination', () => {
  it('is reported before the backup starts', async () => {
    const folder = join(vault.data, 'small');
    mkdirSync(folder);
    writeFileSync(join(folder, 'a'), 'a');
    execFileSync('mount', ['--bind', vault.nas, vault.nas]);
    execFileSync('mount', ['-o', 'remount,bind,ro', vault.nas]);
    try {
      const done = await vault.run(
        'ro',
        `action: backup\nbackup_type: docker_volumes\nsource: ${folder}\ndestination: ${vault.nas}\n`,
      );
      expect(done.reason, done.log).toBe('destination-unwritable');
    } finally {
      execFileSync('umount', [vault.nas]);
    }
  });
});
