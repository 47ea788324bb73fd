import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dockerSocket } from './stand/host.ts';
import { Vault } from './stand/vault.ts';
import { docker } from './stand/world.ts';

let vault: Vault;
beforeAll(async () => {
  vault = new Vault();
  await vault.host.start({ compose: {} });
});
afterAll(() => vault[Symbol.asyncDispose]());

const compose = (more: string, rest = '') =>
  `services:\n  web:\n    image: chatops-test/web:1\n    pull_policy: never\n    init: true\n    stop_grace_period: 0s\n    environment: {TOKEN: hidden-1234}\n${more}${rest}`;
const rollout = (text: string) => {
  vault.stack('ruled', { 'compose.yaml': text });
  return vault.run('up', 'action: rollout\nstack: ruled\n');
};
const running = () => docker('ps', '--quiet', '--filter', 'label=com.docker.compose.project=ruled').trim();
async function restart(rules: object): Promise<void> {
  await vault.host.stop();
  await vault.host.start({ compose: rules });
}

describe('a compose file', () => {
  it.each([
    ['privileged', '    privileged: true\n', '', 'it is privileged'],
    ['capabilities', '    cap_add: [NET_ADMIN]\n', '', 'it adds the capability NET_ADMIN'],
    ['capabilities', '    security_opt: ["seccomp:unconfined"]\n', '', 'it disables a protection: seccomp:unconfined'],
    ['host-namespaces', '    network_mode: host\n', '', "network_mode is the host's"],
    ['host-namespaces', '    pid: host\n', '', "pid is the host's"],
    ['devices', '    devices: ["/dev/null:/dev/x"]\n', '', 'it gets the device'],
    ['binds', '    volumes: ["/etc:/etc-of-the-host:ro"]\n', '', 'it binds /etc'],
    ['binds', '    volumes: ["./../elsewhere:/x"]\n', '', 'elsewhere'],
    [
      'binds',
      '    volumes: ["sly:/x"]\n',
      'volumes:\n  sly: {driver_opts: {type: none, o: bind, device: /etc}}\n',
      'volume sly: it binds /etc',
    ],
    ['binds', '    secrets: [sly]\n', 'secrets:\n  sly: {file: /etc/shadow}\n', 'secrets sly: it binds /etc/shadow'],
    ['docker-socket', '    volumes: ["SOCKET:/s"]\n', '', 'it gets the Docker socket'],
  ])('is refused before anything starts, unless the host grants %s: %s', async (grant, more, rest, explanation) => {
    await restart({ binds: ['/nowhere'], ports: '8000-9000' });
    const text = compose(more.replace('SOCKET', dockerSocket()), rest);
    const done = await rollout(text);
    expect({ reason: done.reason, logExplains: done.log.includes(explanation), running: running() }, done.log).toEqual({
      reason: 'compose-not-allowed',
      logExplains: true,
      running: '',
    });
    expect(done.log).toMatch(/compose\.yaml:\d+: /);
    expect(done.log).toContain(`compose.grants (${grant})`);
    // The rendered file contains the values of env files, so the agent deletes it.
    const folders = readdirSync(join(vault.host.state, 'runs'));
    for (const run of folders)
      expect(readdirSync(join(vault.host.state, 'runs', run)).filter(name => name.endsWith('.json'))).toEqual([]);
    await restart({ grants: [{ stack: 'other', allow: [grant] }] });
    expect((await rollout(text)).reason).toBe('compose-not-allowed');
  });

  it('is refused with the name of the file and the line of the setting', async () => {
    await restart({});
    const done = await rollout(compose('    cap_add:\n      - SYS_ADMIN\n'));
    expect(done.log).toContain(
      `${join(vault.host.stacks, 'ruled', 'compose.yaml')}:9: service web: it adds the capability SYS_ADMIN`,
    );
  });

  it('may bind the allowed folders, publish the allowed ports, and use the grants of its stack', async () => {
    await restart({ binds: [vault.data], ports: '8000-9000' });
    writeFileSync(join(vault.data, 'x'), '');
    const inside = compose(`    volumes: ["./own:/own", "${vault.data}:/data"]\n`);
    const done = await rollout(inside);
    expect({ exit: done.code, isRunning: running() !== '' }, done.log).toEqual({ exit: 0, isRunning: true });
    const port = await rollout(compose('    ports: ["127.0.0.1:7999:80"]\n'));
    expect({ reason: port.reason, logNamesPort: port.log.includes('7999') }, port.log).toEqual({
      reason: 'compose-not-allowed',
      logNamesPort: true,
    });
    // The earlier version still runs.
    expect(running()).not.toBe('');
    await restart({ ports: '8000-9000', grants: [{ stack: 'ruled', allow: ['capabilities'] }] });
    expect((await rollout(compose('    cap_add: [NET_ADMIN]\n'))).code).toBe(0);
    expect((await rollout(compose('    cap_add: [NET_ADMIN]\n    privileged: true\n'))).reason).toBe(
      'compose-not-allowed',
    );
  });

  it('is checked for a scale too, and a refused scale changes neither containers nor files', async () => {
    await restart({});
    expect((await rollout(compose(''))).code).toBe(0);
    vault.stack('ruled', { 'compose.yaml': compose('    privileged: true\n') });
    const scale = await vault.run('scale', 'action: scale\nstack: ruled\nservice: web\nreplicas: 2\n');
    expect({ reason: scale.reason, containers: running().split('\n').length }, scale.log).toEqual({
      reason: 'compose-not-allowed',
      containers: 1,
    });
    expect(readFileSync(join(vault.host.stacks, 'ruled', 'compose.yaml'), 'utf8')).toContain('privileged');
  });
});
