import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { COMPOSE_GRANTS } from '../agent/plan/compose-config.ts';
import { dockerSocket, freePort } from './stand/host.ts';
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

/** Rows with the exception that opens them. */
const REFUSED: [opening: string, more: string, rest: string, explanation: string][] = [
  ['privileged', '    privileged: true\n', '', 'key "privileged" is true'],
  ['capabilities: NET_ADMIN', '    cap_add: [NET_ADMIN]\n', '', 'adds the capability NET_ADMIN'],
  ['host-namespaces', '    pid: host\n', '', 'key "pid" is the host’s'],
  ['devices: /dev/null', '    devices: ["/dev/null:/dev/x"]\n', '', 'uses the device /dev/null'],
  ['binds: /home:ro', '    volumes: ["/home:/x:ro"]\n', '', 'binds /home'],
  ['binds', '    volumes: ["./../elsewhere:/x"]\n', '', 'elsewhere, which is outside of the stack’s folder'],
  ['docker-socket', '    volumes: ["SOCKET:/s"]\n', '', 'by which the engine is controlled'],
  ['containers: victim', '    pid: container:victim\n', '', 'joins the container victim'],
  ['ports', '    ports: ["80"]\n', '', 'at a port that the engine chooses'],
  [
    'volume-drivers',
    '    volumes: ["sly:/x"]\n',
    'volumes:\n  sly: {driver_opts: {type: overlay, device: overlay, o: "lowerdir=/etc,upperdir=/etc"}}\n',
    'mounts overlay of the host',
  ],
  ['binds: /etc/shadow:ro', '    secrets: [sly]\n', 'secrets:\n  sly: {file: /etc/shadow}\n', 'binds /etc/shadow'],
  [
    'volumes: victim_data',
    '    volumes: ["sly:/x"]\n',
    'volumes:\n  sly: {external: true, name: victim_data}\n',
    'names victim_data',
  ],
  ['network-drivers', '', 'networks:\n  default: {driver: macvlan}\n', 'is another driver than bridge'],
  // A service of a profile is started when it is named.
  [
    'privileged',
    '  hidden:\n    image: chatops-test/web:1\n    profiles: [x]\n    privileged: true\n',
    '',
    'service hidden',
  ],
  ['nothing', '    volumes: ["STATE:/x:ro"]\n', '', 'which belongs to the agent'],
  ['nothing', '    cgroup_parent: /system.slice\n', '', 'key "cgroup_parent" is not allowed'],
  ['nothing', '    labels: {com.docker.compose.project: victim}\n', '', 'compose sets these labels itself'],
];

describe('a compose file that the host does not allow', () => {
  beforeAll(() => restart({ ports: '8000-9000', grants: [{ stack: 'other', allow: COMPOSE_GRANTS }] }));

  it.each(REFUSED)(
    'is refused before anything starts, unless the host grants %s: %s',
    async (opening, more, rest, explanation) => {
      await restart({ ports: '8000-9000', grants: [{ stack: 'other', allow: COMPOSE_GRANTS }] });
      const text = compose(more.replace('SOCKET', dockerSocket()).replace('STATE', vault.host.state), rest);
      const done = await rollout(text);
      expect(
        { reason: done.reason, logExplains: done.log.includes(explanation), running: running() },
        done.log,
      ).toEqual({
        reason: 'compose-not-allowed',
        logExplains: true,
        running: '',
      });
      expect(done.log).toMatch(/compose\.yaml:\d+: /);
      expect(done.log).toContain(opening === 'nothing' ? 'No grant allows all of it' : `compose.grants (${opening}`);
      expect(done.log).not.toContain('hidden-1234');
    },
  );
});

describe('a compose file', () => {
  it('is refused with the name of the file and the line of the setting', async () => {
    await restart({});
    const done = await rollout(compose('    cap_add:\n      - SYS_ADMIN\n'));
    expect(done.log).toContain(
      `${join(vault.host.stacks, 'ruled', 'compose.yaml')}:9: service web: key "cap_add.0" adds the capability SYS_ADMIN`,
    );
  });

  it('may bind the allowed folders, publish the allowed ports, and use the exceptions of its stack', async () => {
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
    await restart({ ports: '8000-9000', grants: [{ stack: 'ruled', capabilities: ['NET_ADMIN'] }] });
    expect((await rollout(compose('    cap_add: [NET_ADMIN]\n'))).code).toBe(0);
    expect((await rollout(compose('    cap_add: [NET_ADMIN, SYS_ADMIN]\n'))).reason).toBe('compose-not-allowed');
  });

  it('starts with the exceptions that "chatops policy suggest" prints for it', async () => {
    await restart({ ports: '8000-9000' });
    const port = await freePort();
    const ports = `    ports: ["127.0.0.1:${port}:80"]\n`;
    const volumes = `    volumes: ["${vault.data}:/data:ro", "/etc/localtime:/etc/localtime:ro", "named:/named"]\n`;
    const more = `    cap_add: [NET_ADMIN]\n    devices: ["/dev/null:/dev/x"]\n${ports}${volumes}`;
    const text = `name: films\n${compose(more, 'volumes:\n  named:\n')}`;
    const refused = await rollout(text);
    expect(refused.reason, refused.log).toBe('compose-not-allowed');
    const suggested = await vault.host.chatops(['policy', 'suggest', 'ruled']);
    expect(suggested.code, suggested.stderr).toBe(0);
    const { grants } = (parse(suggested.stdout) as { compose: { grants: object[] } }).compose;
    expect(grants).toEqual([
      {
        stack: 'ruled',
        binds: [`${vault.data}:ro`, '/etc/localtime:ro'],
        devices: ['/dev/null'],
        capabilities: ['NET_ADMIN'],
        ports: [port],
        project: 'films',
      },
    ]);
    await restart({ ports: '8000-9000', grants });
    const done = await rollout(text);
    expect(done.code, done.log).toBe(0);
    expect(docker('ps', '--quiet', '--filter', 'label=com.docker.compose.project=films').trim()).not.toBe('');
    // Without the exceptions it is another stack's again.
    await restart({ ports: '8000-9000' });
    expect((await vault.host.chatops(['policy', 'suggest', 'ruled', '--json'])).stdout).toContain('"value": "films"');
    docker(
      'rm',
      '--force',
      ...docker('ps', '--quiet', '--filter', 'label=com.docker.compose.project=films').trim().split('\n'),
    );
  });

  it('with a variable that nothing sets has a warning with its line in the log, in a plan and next to suggestions', async () => {
    await restart({});
    const text = compose('    working_dir: "$' + '{SHARE}"\n    hostname: "$' + '{SHARE}x"\n');
    const warnings = [8, 9].map(
      line => `${join(vault.host.stacks, 'ruled', 'compose.yaml')}:${line}: the variable SHARE is not set`,
    );
    const done = await rollout(text);
    expect(done.code, done.log).toBe(0);
    const planned = await vault.run('up', 'action: rollout\nstack: ruled\n', '--plan');
    const { stdout } = await vault.host.chatops(['policy', 'suggest', 'ruled']);
    for (const shown of [done.log, planned.log, stdout])
      for (const warning of warnings) expect(shown.split('\n').filter(line => line.includes(warning))).not.toEqual([]);
    // The log has each once.
    for (const warning of warnings) expect(done.log.split(warning)).toHaveLength(2);
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
