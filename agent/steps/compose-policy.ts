import { readFile, realpath, rm } from 'node:fs/promises';
import { basename } from 'node:path';
import { isNode, LineCounter, parseDocument } from 'yaml';
import { listRegistries } from '../outbound/circuit-breaker.ts';
import type { ComposeGrant, JudgeConfigStep, StartStep } from '../plan/plan.ts';
import type { StepResult } from '../plan/progress.ts';
import { listSecrets } from '../secrets/config-secrets.ts';
import { requireUnder } from '../system/safe-paths.ts';
import { type StepContext, type StepExecution, SUCCEEDED } from './runner.ts';
import { runStart } from './start.ts';

/** A part of a rendered compose config that the host does not grant to its stack. */
interface PolicyViolation {
  grant: ComposeGrant;
  /** Keys from the compose file's root, to find the line. */
  path: string[];
  what: string;
}

type ComposeRules = JudgeConfigStep['rules'];
type ComposeNode = Record<string, unknown>;

const NAMESPACE_KEYS = ['network_mode', 'pid', 'ipc', 'uts', 'userns_mode', 'cgroup'];

const MAX_REPORTED = 5;

/** Renders the compose config, checks it, and learns its secrets and registries. */
export async function* runJudgeConfig(step: JudgeConfigStep, context: StepContext): StepExecution {
  const stdoutTo = `${context.base}.json`;
  const failure = { code: 'compose-invalid', remedy: 'Correct the compose file. Nothing was started.' };
  const { name, argv, cwd, timeout } = step;
  const render: StartStep = { do: 'start', name, argv, cwd, timeout, stdoutTo, repeatable: true, failure };
  try {
    const result = yield* runStart(render, context);
    if (result.outcome !== 'succeeded') return result;
    const rendered = await readFile(stdoutTo, 'utf8');
    const config = JSON.parse(rendered) as { services?: Record<string, { image?: string }> };
    for (const secret of listSecrets(config, { shown: [], hidden: [] })) context.redactor.add(secret);
    const images = Object.values(config.services ?? {}).flatMap(({ image }) => image ?? []);
    context.registries.set(context.document, listRegistries(images));
    return await checkRenderedConfig(rendered, step);
  } finally {
    // It holds the values of env files.
    await rm(stdoutTo, { force: true });
  }
}

async function checkRenderedConfig(text: string, { rules, file }: JudgeConfigStep): Promise<StepResult> {
  const found = await findViolations(JSON.parse(text) as ComposeNode, rules);
  if (found.length === 0) return SUCCEEDED;
  const source = file === undefined ? undefined : await readFile(file, 'utf8').catch(() => undefined);
  const reported = found.slice(0, MAX_REPORTED).map(({ path, what }) => {
    const line = source === undefined ? undefined : findLine(source, path);
    return line === undefined ? what : `${file}:${line}: ${what}`;
  });
  const grants = [...new Set(found.map(({ grant }) => grant))].join(', ');
  return {
    outcome: 'failed',
    code: 'compose-not-allowed',
    message: `This host does not allow the stack's compose config. ${reported.join('; ')}${found.length > MAX_REPORTED ? `; and ${found.length - MAX_REPORTED} more` : ''}.`,
    remedy: `Nothing was started. If it is intended, grant it to the stack by name in agent.yaml: compose.grants (${grants})${grants.includes('binds') ? ', or name the folder in compose.binds' : ''}.`,
  };
}

/** Returns the violations in the output of `docker compose config --format json`. */
async function findViolations(config: ComposeNode, rules: ComposeRules): Promise<PolicyViolation[]> {
  const found: PolicyViolation[] = [];
  for (const [name, service] of Object.entries((config.services ?? {}) as Record<string, ComposeNode>)) {
    const add = (grant: ComposeGrant, key: string, what: string) =>
      found.push({ grant, path: ['services', name, key], what: `service ${name}: ${what}` });
    if (service.privileged === true) add('privileged', 'privileged', 'it is privileged');
    for (const capability of toList(service.cap_add))
      add('capabilities', 'cap_add', `it adds the capability ${capability}`);
    for (const key of NAMESPACE_KEYS) if (service[key] === 'host') add('host-namespaces', key, `${key} is the host's`);
    for (const option of toList(service.security_opt))
      if (/unconfined|:disable|=disable/.test(String(option)))
        add('capabilities', 'security_opt', `it disables a protection: ${option}`);
    for (const device of [...toList(service.devices), ...toList(service.device_cgroup_rules)])
      add('devices', 'devices', `it gets the device ${typeof device === 'object' ? JSON.stringify(device) : device}`);
    for (const from of toList(service.volumes_from))
      if (String(from).startsWith('container:')) add('binds', 'volumes_from', `it takes the volumes of ${from}`);
    for (const volume of toList(service.volumes) as ComposeNode[])
      if (volume.type === 'bind')
        await checkBind(String(volume.source), rules, (grant, what) => add(grant, 'volumes', what));
    for (const port of toList(service.ports) as ComposeNode[])
      checkPort(port, rules, what => add('ports', 'ports', what));
  }
  // A volume of the local driver can be a folder of the host, and configs and secrets are files of it.
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
  report: (grant: ComposeGrant, what: string) => void,
): Promise<void> {
  const real = await realpath(source).catch(() => source);
  if (basename(real) === 'docker.sock' || real === rules.socket)
    return report('docker-socket', `it gets the Docker socket (${source})`);
  const isUnderOne = rules.binds.map(root =>
    requireUnder(source, root).then(
      () => true,
      () => false,
    ),
  );
  if (!(await Promise.all(isUnderOne)).includes(true))
    report('binds', `it binds ${source}, which is not under ${rules.binds.join(', ')}`);
}

function checkPort(
  port: ComposeNode,
  { ports: [lowest, highest] }: ComposeRules,
  report: (what: string) => void,
): void {
  const [from, to = from] = String(port.published ?? '')
    .split('-')
    .map(Number);
  if (!from || !to || (from >= lowest && to <= highest)) return;
  report(`it publishes the port ${port.published}, which is not between ${lowest} and ${highest}`);
}

function toList(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Returns the line of a compose file that has the path or its nearest parent; undefined if the file has neither. */
function findLine(text: string, path: string[]): number | undefined {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  for (let length = path.length; length > 1; length--) {
    const node = document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return undefined;
}
