import { accessSync, constants, existsSync, readdirSync, statfsSync, statSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { messageOf } from '../../protocol/refusal.ts';
import { type Config, ConfigError, parseListen, readConfig } from '../config/load.ts';
import { COMPOSE_MINIMUM } from '../executors/compose/target.ts';
import { DockerEngine } from '../outbound/docker.ts';
import { Failure } from '../plan/failure.ts';
import { createHostReader } from '../system/host-reader.ts';
import { createCleanEnvironment } from '../system/process.ts';
import { readSecretFile, secretPath } from '../system/secret-file.ts';

/** What one look came to. `remedy` only where something is wrong. */
export interface CheckResult {
  check: string;
  state: 'good' | 'bad' | 'skipped';
  says: string;
  remedy?: string | undefined;
}

const LEAST_FREE = 2 ** 30;

/** Clocks may differ by that much before tokens are too old or too new, in seconds. */
const MOST_SKEW = 60;
const TIMEOUT_MS = 5_000;

/** Looks at everything that the agent which `file` (agent.yaml) describes needs. `agent` says whether it runs. */
export async function diagnoseHost(
  file: string,
  agent: (config: Config) => Promise<CheckResult>,
): Promise<CheckResult[]> {
  const [major = 0] = process.versions.node.split('.').map(Number);
  const node = checkResult('Node', major >= 24, process.version, 'Install Node 24 or newer.');
  let config: Config;
  try {
    config = readConfig(file);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return [node, failed('agent.yaml', error.message, 'Correct it; "chatops config check FILE" tells the same.')];
  }
  return [
    node,
    passed('agent.yaml', `${file}: agent "${config.agent}"`),
    ...checkFolders(config),
    ...checkSecrets(config),
    checkAddress(config),
    ...(await checkDocker(config)),
    ...checkPrograms(config),
    checkTailscale(config),
    await checkIssuer(config),
    await agent(config),
  ];
}

function checkFolders({ state_dir, stacks, intents_dir, schedules, hooks, backups }: Config): CheckResult[] {
  const own = schedules.length + hooks.length > 0 ? [intents_dir] : [];
  return [
    ...[state_dir, stacks.root, ...own, ...backups.destinations.map(({ path }) => path)].map(path => {
      if (!existsSync(path))
        return failed(
          path,
          'it is not there',
          path === state_dir ? 'The agent makes it at its first start.' : 'Make it, mount it, or correct agent.yaml.',
        );
      try {
        accessSync(path, path === intents_dir ? constants.R_OK : constants.R_OK | constants.W_OK);
        return passed(path, statSync(path).isDirectory() ? 'there, and may be used' : 'there');
      } catch {
        return failed(
          path,
          'this user may not use it',
          'Run this as the agent’s user; then let that user read and write there.',
        );
      }
    }),
    ...(existsSync(state_dir) ? [checkDiskSpace(state_dir)] : []),
  ];
}

function checkDiskSpace(path: string): CheckResult {
  const { bavail, bsize } = statfsSync(path);
  const free = bavail * bsize;
  return checkResult(
    'room for the state',
    free >= LEAST_FREE,
    `${(free / 2 ** 30).toFixed(1)} GiB free at ${path}`,
    'Make room, or shorten "history" in agent.yaml.',
  );
}

/** Every file that agent.yaml names a secret by. */
function checkSecrets(config: Config): CheckResult[] {
  const { github, doors, backups, hooks, notify, proxmox } = config;
  const named = [
    github?.token_file,
    doors.token_file,
    proxmox.api?.token_file,
    backups.restic?.password_file,
    ...backups.databases.map(one => one.password_file),
    ...hooks.flatMap(one => [one.hmac_file, one.token_file, one.path_file]),
    ...notify.channels.flatMap(channel => (channel.type === 'email' ? [channel.smtp.password_file] : [])),
    ...notify.channels.flatMap(channel =>
      Object.entries(channel).flatMap(([key, value]) => (key.endsWith('_file') ? [String(value)] : [])),
    ),
  ].filter(file => file !== undefined);
  return [...new Set(named)].map(file => {
    try {
      readSecretFile(file);
      return passed(`secret ${file}`, 'can be read, by nobody else');
    } catch (error) {
      if (file.startsWith('credential:') && !existsSync(secretPath(file)))
        return skipped(`secret ${file}`, 'only the unit has it (LoadCredential=)');
      return failed(`secret ${file}`, messageOf(error), 'Write it, mode 0600, owned by the agent’s user.');
    }
  });
}

function checkAddress({ listen, tls }: Config): CheckResult {
  const { host = '' } = parseListen(listen) ?? {};
  const own = Object.values(networkInterfaces()).flatMap(found => (found ?? []).map(one => one.address));
  const isOwn = ['0.0.0.0', '::'].includes(host) || own.includes(host);
  const says = `${listen}${tls ? ' (TLS)' : ''}${host === '0.0.0.0' || host === '::' ? ', which is every address of this host' : ''}`;
  return checkResult(
    'listen',
    isOwn,
    isOwn ? says : `${listen} is no address of this host`,
    'Start Tailscale, or correct listen in agent.yaml.',
  );
}

async function checkDocker({ docker: named }: Config): Promise<CheckResult[]> {
  const engine = new DockerEngine(named.socket);
  const look = createHostReader(engine, createCleanEnvironment(named));
  const found: CheckResult[] = [];
  try {
    await engine.ping();
    found.push(passed('Docker', `answers at ${named.socket}`));
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    found.push(failed('Docker', error.message, error.remedy));
  }
  try {
    const { code, stdout, stderr } = (await look.ask([named.command, 'compose', 'version', '--short'])) ?? {
      code: 1,
      stdout: '',
      stderr: '',
    };
    const [major = 0, minor = 0] = stdout.trim().replace(/^v/, '').split('.').map(Number);
    const [least, next] = COMPOSE_MINIMUM;
    const isNew = code === 0 && (major > least || (major === least && minor >= next));
    found.push(
      checkResult(
        'compose',
        isNew,
        stdout.trim() || stderr.trim() || 'it does not answer',
        `Install Docker Compose ${COMPOSE_MINIMUM.join('.')} or newer.`,
      ),
    );
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    found.push(failed('compose', error.message, error.remedy));
  }
  return found;
}

function checkPrograms({ backups }: Config): CheckResult[] {
  const wanted = [
    ...(backups.destinations.length + backups.remotes.length > 0 ? ['rsync', 'zstd'] : []),
    ...(backups.restic ? ['restic'] : []),
  ];
  const folders = (createCleanEnvironment({ socket: '' }).PATH ?? '').split(':');
  const there = new Set(folders.flatMap(folder => (existsSync(folder) ? readdirSync(folder) : [])));
  return wanted.map(name =>
    checkResult(
      name,
      there.has(name),
      there.has(name) ? 'installed' : 'not installed',
      `Install ${name}: backups want it.`,
    ),
  );
}

function checkTailscale({ trust, doors, tailscale: { socket } }: Config): CheckResult {
  const isWanted = trust.some(entry => entry.tailscale) || doors.tailscale !== undefined;
  if (!isWanted) return skipped('tailscaled', 'no entry asks it');
  return checkResult(
    'tailscaled',
    existsSync(socket),
    socket,
    'Start tailscaled, or correct tailscale.socket in agent.yaml.',
  );
}

/** The keys of GitHub's tokens, and by the way the clock. */
async function checkIssuer({ trust, oidc }: Config): Promise<CheckResult> {
  if (!trust.some(entry => entry.github)) return skipped('GitHub’s keys', 'no entry wants tokens');
  if (oidc.jwks_file !== undefined)
    return checkResult(
      'GitHub’s keys',
      existsSync(oidc.jwks_file),
      oidc.jwks_file,
      'Write the issuer’s key set there.',
    );
  const url = oidc.jwks_url ?? `${oidc.issuer}/.well-known/jwks`;
  const remedy = 'Let this host reach it, or name a file of its keys: oidc.jwks_file.';
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) return failed('GitHub’s keys', `${url} answered ${response.status}`, remedy);
    const skew = Math.abs(Date.parse(response.headers.get('date') ?? '') - Date.now()) / 1000;
    if (skew > MOST_SKEW)
      return failed(
        'clock',
        `it differs by ${skew.toFixed(0)} s from ${new URL(url).host}'s`,
        'Set it right (timedatectl set-ntp true): tokens will not hold.',
      );
    return passed('GitHub’s keys', `${url}; the clock is right`);
  } catch (error) {
    return failed('GitHub’s keys', `${url}: ${messageOf(error)}`, remedy);
  }
}

function checkResult(check: string, isGood: boolean, says: string, remedy: string): CheckResult {
  return isGood ? passed(check, says) : failed(check, says, remedy);
}

export function passed(check: string, says: string): CheckResult {
  return { check, state: 'good', says };
}

export function failed(check: string, says: string, remedy: string): CheckResult {
  return { check, state: 'bad', says, remedy };
}

function skipped(check: string, says: string): CheckResult {
  return { check, state: 'skipped', says };
}
