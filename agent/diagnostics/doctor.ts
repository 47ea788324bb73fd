import { accessSync, constants, existsSync, readdirSync, statfsSync, statSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { messageOf } from '../../protocol/refusal.ts';
import { type Isolation, probeIsolation } from '../compose/isolation.ts';
import { type Config, ConfigError, parseListen, readConfig } from '../config/load.ts';
import { COMPOSE_MINIMUM, isSupportedCompose } from '../executors/compose/target.ts';
import { DockerEngine } from '../outbound/docker.ts';
import { Failure } from '../plan/failure.ts';
import { createHostReader } from '../system/host-reader.ts';
import { createCleanEnvironment } from '../system/process.ts';
import { readSecretFile, secretPath } from '../system/secret-file.ts';

/** The result of one check. `remedy` is set if something is wrong. */
export interface CheckResult {
  check: string;
  state: 'good' | 'bad' | 'skipped';
  says: string;
  remedy?: string | undefined;
}

const MIN_FREE_BYTES = 2 ** 30;

/** The clock skew at which tokens become too old or too new, in seconds. */
const MAX_SKEW_SECONDS = 60;
const TIMEOUT_MS = 5_000;

/** Checks everything that the agent of `file` (agent.yaml) needs. `agent` checks if it is running. */
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
    return [
      node,
      failed('agent.yaml', error.message, 'Correct it; "chatops config check FILE" shows the same problems.'),
    ];
  }
  return [
    node,
    passed('agent.yaml', `${file}: agent "${config.agent}"`),
    ...checkFolders(config),
    ...checkSecrets(config),
    checkAddress(config),
    ...(await checkDocker(config)),
    passed('rendering', RENDERINGS[await probeIsolation()]),
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
          'it does not exist',
          path === state_dir
            ? 'Start the agent: it creates the folder at its first start.'
            : 'Create it, mount it, or correct agent.yaml.',
        );
      try {
        accessSync(path, path === intents_dir ? constants.R_OK : constants.R_OK | constants.W_OK);
        return passed(path, statSync(path).isDirectory() ? 'exists, with access' : 'exists');
      } catch {
        return failed(
          path,
          'this user has no access',
          'Run the doctor as the user of the agent; then let that user read and write there.',
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
    'space for the state',
    free >= MIN_FREE_BYTES,
    `${(free / 2 ** 30).toFixed(1)} GiB free at ${path}`,
    'Free space, or shorten "history" in agent.yaml.',
  );
}

/** Checks every secret file of agent.yaml. */
function checkSecrets(config: Config): CheckResult[] {
  const { github, doors, backups, hooks, notify, proxmox } = config;
  const files = [
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
  return [...new Set(files)].map(file => {
    try {
      readSecretFile(file);
      return passed(`secret ${file}`, 'readable, only by this user');
    } catch (error) {
      if (file.startsWith('credential:') && !existsSync(secretPath(file)))
        return skipped(`secret ${file}`, 'only the systemd unit can read it (LoadCredential=)');
      return failed(`secret ${file}`, messageOf(error), 'Write it with mode 0600, owned by the user of the agent.');
    }
  });
}

function checkAddress({ listen, tls }: Config): CheckResult {
  const { host = '' } = parseListen(listen) ?? {};
  const addresses = Object.values(networkInterfaces()).flatMap(found => (found ?? []).map(one => one.address));
  const isOwn = ['0.0.0.0', '::'].includes(host) || addresses.includes(host);
  const says = `${listen}${tls ? ' (TLS)' : ''}${host === '0.0.0.0' || host === '::' ? ', all addresses of this host' : ''}`;
  return checkResult(
    'listen',
    isOwn,
    isOwn ? says : `${listen} is not an address of this host`,
    'Start Tailscale, or correct listen in agent.yaml.',
  );
}

async function checkDocker({ docker: settings }: Config): Promise<CheckResult[]> {
  const engine = new DockerEngine(settings.socket);
  const host = createHostReader(engine, createCleanEnvironment(settings), async () => undefined);
  const found: CheckResult[] = [];
  try {
    await engine.ping();
    found.push(passed('Docker', `answers at ${settings.socket}`));
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    found.push(failed('Docker', error.message, error.remedy));
  }
  try {
    const { code, stdout, stderr } = (await host.ask([settings.command, 'compose', 'version', '--short'])) ?? {
      code: 1,
      stdout: '',
      stderr: '',
    };
    const isSupported = code === 0 && isSupportedCompose(stdout) === true;
    found.push(
      checkResult(
        'compose',
        isSupported,
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

/** Compose gets copies without a path or variable of the host in each case: the rest is a second wall. */
const RENDERINGS: Record<Isolation, string> = {
  namespaces:
    'compose renders copies, in namespaces without network and files of the host (for this user, outside of the unit)',
  user: 'compose renders copies, as a user without rights',
  input: 'compose renders copies, as this user: bubblewrap is missing, or namespaces are not permitted',
};

function checkPrograms({ backups }: Config): CheckResult[] {
  const required = [
    ...(backups.destinations.length + backups.remotes.length > 0 ? ['rsync', 'zstd'] : []),
    ...(backups.restic ? ['restic'] : []),
  ];
  const folders = (createCleanEnvironment({ socket: '' }).PATH ?? '').split(':');
  const installed = new Set(folders.flatMap(folder => (existsSync(folder) ? readdirSync(folder) : [])));
  return required.map(name =>
    checkResult(
      name,
      installed.has(name),
      installed.has(name) ? 'installed' : 'not installed',
      `Install ${name}: backups need it.`,
    ),
  );
}

function checkTailscale({ trust, doors, tailscale: { socket } }: Config): CheckResult {
  const isRequired = trust.some(entry => entry.tailscale) || doors.tailscale !== undefined;
  if (!isRequired) return skipped('tailscaled', 'no trust entry uses it');
  return checkResult(
    'tailscaled',
    existsSync(socket),
    socket,
    'Start tailscaled, or correct tailscale.socket in agent.yaml.',
  );
}

/** Checks that the keys of GitHub's tokens are reachable, and that the clock agrees with their server. */
async function checkIssuer({ trust, oidc }: Config): Promise<CheckResult> {
  if (!trust.some(entry => entry.github)) return skipped('GitHub’s keys', 'no trust entry requires tokens');
  if (oidc.jwks_file !== undefined)
    return checkResult(
      'GitHub’s keys',
      existsSync(oidc.jwks_file),
      oidc.jwks_file,
      'Write the key set of the issuer to this file.',
    );
  const url = oidc.jwks_url ?? `${oidc.issuer}/.well-known/jwks`;
  const remedy = 'Let this host reach it, or set oidc.jwks_file to a file with its keys.';
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) return failed('GitHub’s keys', `${url} answered ${response.status}`, remedy);
    const skew = Math.abs(Date.parse(response.headers.get('date') ?? '') - Date.now()) / 1000;
    if (skew > MAX_SKEW_SECONDS)
      return failed(
        'clock',
        `it differs by ${skew.toFixed(0)} s from the clock of ${new URL(url).host}`,
        'Correct it (timedatectl set-ntp true), or the agent rejects tokens.',
      );
    return passed('GitHub’s keys', `${url}; the clock is correct`);
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
