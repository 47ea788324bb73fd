import { readFile, realpath } from 'node:fs/promises';
import { basename } from 'node:path';
import { isNode, LineCounter, parseDocument } from 'yaml';
import type { ComposeGrant, JudgeConfigStep } from '../plan/plan.ts';
import type { StepResult } from '../plan/progress.ts';
import { isReallyUnder } from '../system/paths.ts';

/** What a rendered compose config has that the host does not grant to its stack. */
export interface PolicyViolation {
  grant: ComposeGrant;
  /** Keys below the compose file's root, to find the line. */
  path: string[];
  what: string;
}

type ComposeRules = JudgeConfigStep['rules'];
type ComposeNode = Record<string, unknown>;

const HOST_SPACES = ['network_mode', 'pid', 'ipc', 'uts', 'userns_mode', 'cgroup'];

const MAX_REPORTED = 5;

/** The step's ending for a rendered config. */
export async function checkRenderedConfig(text: string, { rules, file }: JudgeConfigStep): Promise<StepResult> {
  const found = await findViolations(JSON.parse(text) as ComposeNode, rules);
  if (found.length === 0) return { outcome: 'succeeded' };
  const source = file === undefined ? undefined : await readFile(file, 'utf8').catch(() => undefined);
  const told = found.slice(0, MAX_REPORTED).map(({ path, what }) => {
    const line = source === undefined ? undefined : findLine(source, path);
    return line === undefined ? what : `${file}:${line}: ${what}`;
  });
  const grants = [...new Set(found.map(({ grant }) => grant))].join(', ');
  return {
    outcome: 'failed',
    code: 'compose-not-allowed',
    message: `This host does not let the stack do that. ${told.join('; ')}${found.length > MAX_REPORTED ? `; and ${found.length - MAX_REPORTED} more` : ''}.`,
    remedy: `Nothing was started. If it is meant, grant it to the stack by name in agent.yaml: compose.grants (${grants})${grants.includes('binds') ? ', or name the folder in compose.binds' : ''}.`,
  };
}

/** Judges what `docker compose config --format json` says. */
export async function findViolations(config: ComposeNode, rules: ComposeRules): Promise<PolicyViolation[]> {
  const found: PolicyViolation[] = [];
  for (const [name, service] of Object.entries((config.services ?? {}) as Record<string, ComposeNode>)) {
    const at = (grant: ComposeGrant, key: string, what: string) =>
      found.push({ grant, path: ['services', name, key], what: `service ${name}: ${what}` });
    if (service.privileged === true) at('privileged', 'privileged', 'it is privileged');
    for (const capability of toList(service.cap_add))
      at('capabilities', 'cap_add', `it adds the capability ${capability}`);
    for (const key of HOST_SPACES) if (service[key] === 'host') at('host-namespaces', key, `${key} is the host's`);
    for (const option of toList(service.security_opt))
      if (/unconfined|:disable|=disable/.test(String(option)))
        at('capabilities', 'security_opt', `it goes without ${option}`);
    for (const device of [...toList(service.devices), ...toList(service.device_cgroup_rules)])
      at('devices', 'devices', `it gets the device ${typeof device === 'object' ? JSON.stringify(device) : device}`);
    for (const from of toList(service.volumes_from))
      if (String(from).startsWith('container:')) at('binds', 'volumes_from', `it takes the volumes of ${from}`);
    for (const volume of toList(service.volumes) as ComposeNode[])
      if (volume.type === 'bind')
        await checkBind(String(volume.source), rules, (grant, what) => at(grant, 'volumes', what));
    for (const port of toList(service.ports) as ComposeNode[])
      checkPort(port, rules, what => at('ports', 'ports', what));
  }
  // Volumes that the local driver makes of a folder, and files that are mounted by another name.
  for (const [name, volume] of Object.entries((config.volumes ?? {}) as Record<string, ComposeNode | null>)) {
    const { device, o } = (volume?.driver_opts ?? {}) as { device?: string; o?: string };
    if (device?.startsWith('/') && /(^|,)r?bind(,|$)/.test(o ?? ''))
      await checkBind(device, rules, (grant, what) =>
        found.push({ grant, path: ['volumes', name, 'driver_opts'], what: `volume ${name}: ${what}` }),
      );
  }
  for (const kind of ['configs', 'secrets']) {
    for (const [name, one] of Object.entries((config[kind] ?? {}) as Record<string, ComposeNode | null>)) {
      if (typeof one?.file !== 'string') continue;
      await checkBind(one.file, rules, (grant, what) =>
        found.push({ grant, path: [kind, name, 'file'], what: `${kind} ${name}: ${what}` }),
      );
    }
  }
  return found.filter(({ grant }) => !rules.grants.includes(grant));
}

async function checkBind(
  source: string,
  rules: ComposeRules,
  tell: (grant: ComposeGrant, what: string) => void,
): Promise<void> {
  const real = await realpath(source).catch(() => source);
  if (basename(real) === 'docker.sock' || real === rules.socket)
    return tell('docker-socket', `it gets the Docker socket (${source})`);
  if (!(await isReallyUnder(source, rules.binds)))
    tell('binds', `it binds ${source}, which is not under ${rules.binds.join(', ')}`);
}

function checkPort(port: ComposeNode, { ports: [lowest, highest] }: ComposeRules, tell: (what: string) => void): void {
  const [from, to = from] = String(port.published ?? '')
    .split('-')
    .map(Number);
  if (!from || !to || (from >= lowest && to <= highest)) return;
  tell(`it publishes the port ${port.published}, which is not between ${lowest} and ${highest}`);
}

function toList(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

/** The line of a compose file on which that stands, as near as can be had; undefined where it is in another file. */
export function findLine(text: string, path: string[]): number | undefined {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  for (let length = path.length; length > 1; length--) {
    const node = document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return undefined;
}
