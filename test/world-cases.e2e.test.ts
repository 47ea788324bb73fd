import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { freePort } from './stand/host.ts';
import { homelabImage } from './stand/images.ts';
import { eventually, type RunResult, Vault } from './stand/vault.ts';
import { docker } from './stand/world.ts';
import { copyCase } from './stand/world-cases.ts';

interface Case {
  /** The entry of compose.grants that is suggested; undefined if the stack needs none. */
  needs?: object;
  env?: Record<string, string>;
  compose?: string;
  /** The services that run. */
  runs?: string[];
  /** A name for the reason of the failure on this machine, its text, and its code (default: `up-failed`, the engine's). */
  fails?: [name: string, log: RegExp, code?: string];
  /** A line of a service that neither the case nor its suggestion has. */
  attack?: string;
  /** A part that this machine's engine can't start: it is removed once the suggestion is known. */
  leaveOut?: string;
}

const vault = new Vault();
const image = homelabImage();
const network = `proxy-${process.pid}`;
const shared = `shared-${process.pid}`;
const localtime = '/etc/localtime:ro';
const hadEngineFolder = existsSync('/var/lib/docker');
const [http, https, dns, dashboard] = [await freePort(), await freePort(), await freePort(), await freePort()];
// The range needs the next one too.
await freePort();
const canPrivilege = succeeds(() => docker('run', '--rm', '--privileged', `${image}:1`, 'true'));

const CASES: Record<string, Case> = {
  'plex-host-gpu': {
    env: { MEDIA: vault.data },
    needs: { allow: ['host-namespaces'], binds: [localtime, vault.data], devices: ['/dev/null'] },
    runs: ['plex', 'qbittorrent', 'sonarr'],
    attack: 'privileged: true',
  },
  'traefik-socket': {
    env: { HTTP_PORT: `${http}`, HTTPS_PORT: `${https}`, PROXY_NETWORK: network },
    needs: { allow: ['docker-socket'], networks: [network] },
    runs: ['traefik'],
  },
  'nextcloud-init-cron': { runs: ['app', 'cron', 'db'] },
  'immich-name-env': {
    needs: { binds: [localtime], project: 'photos' },
    runs: ['database', 'machine-learning', 'redis', 'server'],
  },
  'home-assistant-host': {
    needs: {
      allow: ['host-namespaces', 'privileged', 'devices'],
      binds: [localtime, '/run/dbus:ro', `${join(vault.host.dir, 'config/mosquitto/mosquitto.conf')}:ro`],
    },
    runs: ['homeassistant', 'mosquitto', 'zigbee2mqtt'],
    attack: 'oom_score_adj: -1000',
    ...(canPrivilege ? {} : { leaveOut: '    privileged: true\n' }),
  },
  'vpn-netns': {
    needs: { devices: ['/dev/null'], capabilities: ['NET_ADMIN'], containers: ['vpn'] },
    runs: ['indexer', 'port-sync', 'torrent', 'vpn'],
  },
  include: { needs: { project: 'house' }, runs: ['gateway', 'metrics', 'notes'] },
  profiles: {
    needs: { allow: ['host-namespaces', 'privileged', 'docker-socket'], binds: ['/'] },
    runs: ['dashboard', 'proxy'],
    attack: 'oom_score_adj: -1000',
  },
  'configs-secrets': { runs: ['sso'] },
  'anchors-many': { env: { GRACE: '0s' }, runs: ['one', 'three', 'two'] },
  'windows-bytes': { needs: { project: 'buero' }, runs: ['web'] },
  'several-files': { compose: 'compose.yaml', runs: ['caddy'] },
  'pihole-macvlan': {
    env: { DNS_PORT: `${dns}` },
    needs: { allow: ['network-drivers'], capabilities: ['NET_ADMIN', 'SYS_NICE', 'SYS_TIME'] },
    fails: ['the macvlan has no parent interface', /failed to create network pihole-macvlan_lan: .*(dummy0|macvlan)/],
  },
  'gpu-models': {
    needs: { allow: ['devices'] },
    fails: ['there is no GPU driver', /could not select device driver "nvidia"/],
  },
  'build-only': {
    fails: ['no image was built', /The image local.built:1 is not on this host/, 'image-missing'],
  },
  'nfs-cifs-volumes': {
    env: { CONFIG_DISK: join(vault.dir, 'apps'), SHARED_VOLUME: shared, NAS: '127.0.0.1', SCRATCH_DISK: '/dev/null' },
    needs: { allow: ['volume-drivers'], binds: [join(vault.dir, 'apps/radarr')], volumes: [shared] },
    fails: ['no server shares the volumes', /failed to mount local volume|subpath/],
  },
  'swarm-leftovers': {
    env: { port_dashboard: `${dashboard}-${dashboard + 1}` },
    needs: { allow: ['host-namespaces', 'privileged', 'docker-socket'], binds: ['/:ro'], devices: ['/dev/kmsg'] },
    fails: ['a container can’t have an alias in the host’s network', /network-scoped alias|unable to apply caps/],
    attack: 'oom_score_adj: -1000',
  },
};
const ROWS = Object.entries(CASES).map(([name, one]) => {
  const leftOut = one.leaveOut === undefined ? '' : ` without "${one.leaveOut.trim()}", which this engine can’t start`;
  const end = one.fails ? `fails because ${one.fails[0]}` : `rolls out${leftOut}`;
  return [
    name,
    one.needs ? 'is refused, and with the suggested text it' : 'needs no exception, and',
    end,
    one,
  ] as const;
});

/** The answers of the host without grants, by the stack's name. */
const answers = new Map<string, { refused: RunResult; suggested: string }>();

const composeFile = (stack: string) => join(vault.host.stacks, stack, 'compose.yaml');
const rollout = (stack: string, compose = CASES[stack]?.compose, as = stack): Promise<RunResult> =>
  vault.run(as, `action: rollout\nstack: ${stack}\n${compose === undefined ? '' : `compose: ${compose}\n`}`);

/** Returns the running containers of a stack: their ids by service. */
function containersOf(stack: string): Record<string, string> {
  const filter = `label=com.docker.compose.project.working_dir=${join(vault.host.stacks, stack)}`;
  const listed = docker('ps', '--filter', filter, '--format', '{{.Label "com.docker.compose.service"}} {{.ID}}');
  return Object.fromEntries(
    listed
      .split('\n')
      .filter(Boolean)
      .sort()
      .map(line => line.split(' ')),
  );
}

function succeeds(action: () => void): boolean {
  try {
    action();
    return true;
  } catch {
    return false;
  }
}

beforeAll(async () => {
  docker('network', 'create', '--subnet', '172.30.99.0/24', network);
  docker('volume', 'create', shared);
  for (const folder of [join(vault.host.dir, 'config/mosquitto'), join(vault.dir, 'apps/radarr')])
    mkdirSync(folder, { recursive: true });
  writeFileSync(join(vault.host.dir, 'config/mosquitto/mosquitto.conf'), '');
  for (const [name, { env = {} }] of Object.entries(CASES))
    await copyCase(name, join(vault.host.stacks, name), image, env);
  await vault.host.start({ compose: {} });
  const ask = async ([name, { needs }]: [string, Case]) => {
    const [refused, { stdout }] = await Promise.all([
      needs && rollout(name),
      vault.host.chatops(['policy', 'suggest', name]),
    ]);
    answers.set(name, { refused: refused ?? { code: 0, log: '', reason: '' }, suggested: stdout });
  };
  await Promise.all(Object.entries(CASES).map(ask));
  await paste([...answers.values()].map(({ suggested }) => suggested));
  for (const [name, { leaveOut }] of Object.entries(CASES))
    if (leaveOut !== undefined) change(composeFile(name), text => text.replace(leaveOut, ''));
});

function change(file: string, edit: (text: string) => string): void {
  writeFileSync(file, edit(readFileSync(file, 'latin1')), 'latin1');
}

/** Appends the suggested texts to agent.yaml as they are, under one "compose" and one "grants", and reloads it. */
async function paste(texts: string[]): Promise<void> {
  const { compose: _, ...rest } = parse(readFileSync(vault.host.configFile, 'utf8')) as Record<string, unknown>;
  const entries = texts.map(text => text.replace(/^compose:\n {2}grants:\n/, ''));
  writeFileSync(vault.host.configFile, `${stringify(rest)}compose:\n  grants:\n${entries.join('')}`);
  vault.host.child?.kill('SIGHUP');
  await eventually(() => expect(vault.host.log).toContain('configuration reloaded'));
}

afterAll(async () => {
  const all = docker('ps', '--all', '--format', '{{.ID}} {{.Label "com.docker.compose.project.working_dir"}}');
  const own = all.split('\n').filter(line => line.includes(vault.host.stacks));
  if (own.length > 0) docker('rm', '--force', '--volumes', ...own.map(line => line.split(' ')[0] ?? ''));
  await vault[Symbol.asyncDispose]();
  docker('network', 'rm', network);
  docker('volume', 'rm', shared);
  // A case mounts it, and the agent creates what is missing.
  if (!hadEngineFolder && existsSync('/var/lib/docker')) rmdirSync('/var/lib/docker');
});

describe.concurrent('the homelab stack', () => {
  it.each(ROWS)(
    '%s %s %s; one more line is refused',
    async (name, _, __, { needs, runs, fails, attack = 'pid: host' }) => {
      const { refused, suggested } = answers.get(name) as { refused: RunResult; suggested: string };
      expect({ reason: refused.reason, text: parse(suggested) }, refused.log + suggested).toEqual(
        needs
          ? { reason: 'compose-not-allowed', text: { compose: { grants: [{ stack: name, ...needs }] } } }
          : { reason: '', text: null },
      );
      if (needs) expect(refused.log).toMatch(/\/\S+\.ya?ml:\d+: /);
      const done = await rollout(name);
      expect(done, done.log).toMatchObject(
        fails ? { code: 1, reason: fails[2] ?? 'up-failed' } : { code: 0, reason: '' },
      );
      if (fails) expect(done.log).toMatch(fails[1]);
      const running = containersOf(name);
      if (runs) expect(Object.keys(running)).toEqual(runs);

      change(composeFile(name), text =>
        text.replace(/^( +)image: .*$/m, line => `${line}\n${/^ +/.exec(line)}${attack}`),
      );
      const attacked = await rollout(name);
      expect(attacked.reason, attacked.log).toBe('compose-not-allowed');
      expect(attacked.log).toMatch(new RegExp(`compose\\.yaml:\\d+: service [\\w-]+: key "${attack.split(':')[0]}"`));
      expect(containersOf(name)).toEqual(running);
    },
  );
});

it.each([
  ['compose.duplicate.yaml', 7],
  ['compose.latin1.yaml', 1],
  ['compose.tabs.yaml', 2],
  ['compose.utf16.yaml', 1],
])('the file %s is refused with the line %d before anything is stopped', async (file, line) => {
  const before = containersOf('windows-bytes');
  const done = await rollout('windows-bytes', file);
  expect(done.reason, done.log).toBe('compose-invalid');
  expect(done.log).toContain(`/${file}:${line}: `);
  expect(containersOf('windows-bytes')).toEqual(before);
});
