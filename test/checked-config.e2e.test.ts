import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { dockerClient } from './stand/host.ts';
import { eventually, Vault } from './stand/vault.ts';
import { docker } from './stand/world.ts';

let vault: Vault;
beforeAll(async () => {
  vault = new Vault();
  await vault.host.start({ compose: {} });
});
afterAll(() => vault[Symbol.asyncDispose]());
afterEach(() => vault.clear());

/** One service. `more`: lines of the service. */
const compose = (more = '', image = 'chatops-test/web:1', service = 'web') =>
  `services:\n  ${service}:\n    image: ${image}\n    pull_policy: never\n    init: true\n    stop_grace_period: 0s\n${more}`;
const TAKE_OVER = '    pid: host\n    environment: {WHO: attacker}\n';
const rollout = (stack: string, more = '') =>
  vault.run('up', `action: rollout\nstack: ${stack}\ntimeout: 90s\n${more}`);

/** Ships the files to a stack, from a working directory of its own. */
async function ship(stack: string, files: Record<string, string>, more = '') {
  const cwd = join(vault.dir, 'repository');
  rmSync(cwd, { recursive: true, force: true });
  mkdirSync(join(cwd, 'src'), { recursive: true });
  for (const [path, text] of Object.entries(files)) writeFileSync(join(cwd, 'src', path), text);
  writeFileSync(join(cwd, 'up.yaml'), `action: rollout\nstack: ${stack}\nsource_dir: src\ntimeout: 90s\n${more}`);
  const { code, stdout, stderr } = await vault.host.chatops(['run', 'up.yaml'], { cwd });
  return { code, log: stdout + stderr };
}

interface Container {
  Config: { Env: string[] };
  HostConfig: { PidMode: string; Privileged: boolean };
}
const containers = (project: string): Container[] => {
  const ids = docker('ps', '--quiet', '--filter', `label=com.docker.compose.project=${project}`).split('\n');
  const found = ids.filter(Boolean);
  return found.length === 0 ? [] : (JSON.parse(docker('inspect', ...found)) as Container[]);
};
const who = (project: string) =>
  containers(project).map(({ Config }) => Config.Env.find(line => line.startsWith('WHO='))?.slice(4));
const pidModes = (project: string) => containers(project).map(({ HostConfig }) => HostConfig.PidMode);
const read = (stack: string, file = 'compose.yaml') => readFileSync(join(vault.host.stacks, stack, file), 'utf8');

/** Restarts the agent with a docker client that waits at `pull` until `release` is called. */
async function holdPulls(): Promise<{ reached: () => Promise<void>; release: () => void }> {
  const program = join(vault.dir, 'docker');
  const [at, go] = [join(vault.dir, 'at-pull'), join(vault.dir, 'go')];
  writeFileSync(
    program,
    `#!/bin/sh\ncase " $* " in *" pull "*) touch ${at}; while [ ! -e ${go} ]; do sleep 0.1; done;; esac\nexec docker "$@"\n`,
  );
  chmodSync(program, 0o755);
  await restart({}, { docker: { ...dockerClient(), command: program } });
  return {
    reached: () => eventually(() => expect(existsSync(at)).toBe(true), 60_000),
    release: () => writeFileSync(go, ''),
  };
}

async function restart(rules: object, more: object = {}): Promise<void> {
  await vault.host.stop();
  await vault.host.start({ compose: rules, ...more });
}

describe('the config that was checked', () => {
  it('runs although the files of the stack change between the check and the start', async () => {
    vault.stack('race', { 'compose.yaml': compose('    environment: {WHO: $NAME}\n'), '.env': 'NAME=checked-1\n' });
    const { reached, release } = await holdPulls();
    const run = rollout('race');
    await reached();
    vault.stack('race', {
      'compose.yaml': compose(TAKE_OVER),
      'compose.override.yaml': compose(TAKE_OVER),
      '.env': 'NAME=attacker\nCOMPOSE_PROJECT_NAME=victim\n',
    });
    release();
    const done = await run;
    await restart({});
    expect({ code: done.code, who: who('race'), pid: pidModes('race') }, done.log).toEqual({
      code: 0,
      who: ['checked-1'],
      pid: [''],
    });
  });

  it('is readable to the agent alone, is not in its database, and is removed after a plan', async () => {
    vault.stack('kept', { 'compose.yaml': compose('    env_file: [app.env]\n'), 'app.env': 'API_TOKEN=hidden-4711\n' });
    const planned = await vault.run('plan', 'action: rollout\nstack: kept\n', '--plan');
    expect(planned.code, planned.log).toBe(0);
    const findConfigs = () =>
      readdirSync(vault.host.state, { recursive: true, encoding: 'utf8' })
        .map(name => join(vault.host.state, name))
        .filter(file => statSync(file, { throwIfNoEntry: false })?.isFile())
        .filter(file => readFileSync(file).includes('hidden-4711'));
    expect(findConfigs()).toEqual([]);
    const done = await rollout('kept');
    expect(done.code, done.log).toBe(0);
    const found = findConfigs().map(file => file.slice(vault.host.state.length + 1));
    expect(found).toEqual([
      expect.stringMatching(/^runs\/[\w-]+\/compose-1\/next\.json$/),
      expect.stringMatching(/^stacks\/kept\/files\/[0-9a-f]{64}$/),
    ]);
    for (const file of found) expect(statSync(join(vault.host.state, file)).mode & 0o777).toBe(0o600);
    expect(done.log).not.toContain('hidden-4711');
  });

  it('is of the stack’s own project, and another name is refused', async () => {
    vault.stack('victim', { 'compose.yaml': compose('    environment: {WHO: victim}\n') });
    expect((await rollout('victim')).code).toBe(0);
    vault.stack('thief', { 'compose.yaml': `name: victim\n${compose(TAKE_OVER.replace('    pid: host\n', ''))}` });
    const byName = await rollout('thief');
    vault.stack('thief', { 'compose.yaml': compose(), '.env': 'COMPOSE_PROJECT_NAME=victim\n' });
    const byVariable = await rollout('thief');
    expect([byName.reason, byVariable.reason], byVariable.log).toEqual(['compose-not-allowed', 'compose-not-allowed']);
    expect({ victim: who('victim'), thief: who('thief') }).toEqual({ victim: ['victim'], thief: [] });
  });

  it('includes services of profiles: a service that the intent names is checked, and others stay down', async () => {
    const hidden = (more: string) =>
      compose(`    profiles: [x]\n${more}`, undefined, 'hidden').slice('services:\n'.length);
    vault.stack('profiled', { 'compose.yaml': compose('    environment: {WHO: web}\n') + hidden(TAKE_OVER) });
    for (const more of ['', 'service: hidden\n'])
      expect((await rollout('profiled', more)).reason).toBe('compose-not-allowed');
    const scale = await vault.run('up', 'action: scale\nstack: profiled\nservice: hidden\nreplicas: 1\n');
    expect({ reason: scale.reason, who: who('profiled') }).toEqual({ reason: 'compose-not-allowed', who: [] });

    const harmless = compose('    environment: {WHO: web}\n') + hidden('    environment: {WHO: hidden}\n');
    vault.stack('profiled', { 'compose.yaml': harmless });
    expect((await rollout('profiled')).code).toBe(0);
    expect(who('profiled')).toEqual(['web']);
    expect((await rollout('profiled', 'service: hidden\n')).code).toBe(0);
    expect(who('profiled').sort()).toEqual(['hidden', 'web']);
    vault.stack('profiled', { '.env': 'COMPOSE_PROFILES=x\n' });
    vault.clear();
    expect((await rollout('profiled')).code).toBe(0);
    expect(who('profiled').sort()).toEqual(['hidden', 'web']);
  });
});

describe('a config that is not allowed', () => {
  const unhealthy = '    healthcheck: {test: [CMD, "false"], interval: 1s, retries: 1, timeout: 10s}\n';

  it('leaves no file when it is shipped, so that no later undo brings it up', async () => {
    vault.stack('trap');
    const good = compose('    environment: {WHO: first}\n');
    expect((await ship('trap', { 'compose.yaml': good })).code).toBe(0);
    const refused = await ship('trap', { 'compose.yaml': compose(TAKE_OVER), 'more.txt': 'x' }, 'on_failure: stop\n');
    expect(refused.log).toContain('compose-not-allowed');
    expect({ compose: read('trap'), more: existsSync(join(vault.host.stacks, 'trap', 'more.txt')) }).toEqual({
      compose: good,
      more: false,
    });
    const failed = await ship('trap', { 'compose.yaml': compose(`    environment: {WHO: second}\n${unhealthy}`) });
    expect(failed.log).toContain('The previous version is running again.');
    expect({ who: who('trap'), pid: pidModes('trap') }).toEqual({ who: ['first'], pid: [''] });
  });

  it('is not started by an undo when an edit of the host’s files planted it after the last rollout', async () => {
    vault.stack('planted', { 'compose.yaml': compose('    environment: {WHO: first}\n') });
    expect((await rollout('planted')).code).toBe(0);
    vault.stack('planted', { 'compose.yaml': compose(TAKE_OVER), 'compose.override.yaml': compose(TAKE_OVER) });
    const failed = await ship('planted', {
      'compose.yaml': compose(`    environment: {WHO: second}\n${unhealthy}`),
      'compose.override.yaml': 'services: {}\n',
    });
    expect(failed.log).toContain('The previous version is running again.');
    expect({ who: who('planted'), pid: pidModes('planted') }).toEqual({ who: ['first'], pid: [''] });
  });

  it('is not brought back if it was started by hand, and the plan says so', async () => {
    const folder = vault.stack('by-hand', { 'compose.yaml': compose(TAKE_OVER) });
    docker('compose', '--project-directory', folder, 'up', '--detach');
    expect(who('by-hand')).toEqual(['attacker']);
    const done = await ship('by-hand', { 'compose.yaml': compose(`    environment: {WHO: shipped}\n${unhealthy}`) });
    expect(done.log).toContain('There is no version to bring back: This host does not allow');
    expect({ code: done.code, who: who('by-hand'), pid: pidModes('by-hand') }, done.log).toEqual({
      code: 1,
      who: ['shipped'],
      pid: [''],
    });
  });

  it('is not started by a rollback, whether an override is planted or a grant was removed', async () => {
    const version = (who: string, more = '') => compose(`    environment: {WHO: ${who}}\n${more}`);
    await restart({ grants: [{ stack: 'back', allow: ['capabilities'] }] });
    vault.stack('back', { 'compose.yaml': version('first', '    cap_add: [SYS_ADMIN]\n') });
    expect((await rollout('back')).code).toBe(0);
    vault.stack('back', { 'compose.yaml': version('second') });
    expect((await rollout('back')).code).toBe(0);
    vault.stack('back', { 'compose.yaml': version('third') });
    expect((await rollout('back')).code).toBe(0);
    vault.stack('back', { 'compose.override.yaml': compose(TAKE_OVER) });
    await restart({});
    const second = await vault.run('back', 'action: rollback\nstack: back\n');
    expect({ code: second.code, who: who('back'), pid: pidModes('back') }, second.log).toEqual({
      code: 0,
      who: ['second'],
      pid: [''],
    });
    const first = await vault.run('back', 'action: rollback\nstack: back\n');
    expect({ reason: first.reason, who: who('back') }, first.log).toEqual({
      reason: 'compose-not-allowed',
      who: ['second'],
    });
  });
});
