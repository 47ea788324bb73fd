import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../protocol/refusal.ts';
import { type ApiFile, ProxmoxApi, ProxmoxError } from './proxmox.ts';

/** The exit code of a vzdump that fails. */
const FAILED = 255;
const POLL_MS = 1_000;
const LOG_PAGE = 500;

/** So many polls in a row may fail: an update restarts Proxmox's API. */
const MAX_MISSED_POLLS = 60;

/** Runs one of Proxmox's programs over its API, as far as the agent uses it: `chatops proxmox PROGRAM API-FILE ARGUMENT…`. */
export async function proxmoxCommand([program = '', file = '', ...args]: string[]): Promise<number> {
  try {
    const api = new ProxmoxApi(JSON.parse(readFileSync(file, 'utf8')) as ApiFile);
    const options = parseOptions(args);
    switch (program) {
      case 'vzdump':
        return await runVzdump(api, args[0] ?? '', options);
      case 'pvesh':
        return await runPvesh(api, args, options);
      case 'pvesm':
        return await runPvesm(api, args, options);
      case 'qm':
      case 'pct':
        if (args[0] === 'config') return await runConfig(api, program === 'qm' ? 'qemu' : 'lxc', args[1] ?? '');
    }
    throw new ProxmoxError(
      `"${program} ${args[0] ?? ''}" is not supported over the API: a restore creates a guest, which this token may not do. Run the agent as root on the node.`,
    );
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n`);
    return FAILED;
  }
}

/** Reads `--name value` and `--name=value`. */
function parseOptions(args: string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (let index = 0; index < args.length; index++) {
    const [, name, value] = /^--([\w-]+)(?:=(.*))?$/s.exec(args[index] ?? '') ?? [];
    if (name !== undefined) found.set(name, value ?? args[++index] ?? '');
  }
  return found;
}

/** Starts the task, prints its log as it grows, and stops it when this process is stopped. */
async function runVzdump(api: ProxmoxApi, id: string, options: Map<string, string>): Promise<number> {
  const task = await api.call<string>('POST', `/nodes/${api.node}/vzdump`, {
    vmid: id,
    ...Object.fromEntries(options),
  });
  const path = `/nodes/${api.node}/tasks/${encodeURIComponent(task)}`;
  const stop = () =>
    void api.call('DELETE', path).catch((error: unknown) => process.stderr.write(`${String(error)}\n`));
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop);
  let line = 0;
  let missed = 0;
  for (;;) {
    try {
      // The status first: once the task has stopped, its log is complete.
      const { status, exitstatus = '' } = await api.call<{ status: string; exitstatus?: string }>(
        'GET',
        `${path}/status`,
      );
      for (let page = LOG_PAGE; page === LOG_PAGE; ) {
        const lines = await api.call<{ n: number; t: string }[]>('GET', `${path}/log`, {
          start: String(line),
          limit: String(LOG_PAGE),
        });
        page = lines.length;
        const added = lines.filter(({ n }) => n > line);
        for (const { t } of added) if (t !== 'no content') process.stderr.write(`${t}\n`);
        line = Math.max(line, ...added.map(({ n }) => n));
        if (added.length === 0) break;
      }
      missed = 0;
      if (status === 'stopped') {
        if (exitstatus === 'OK' || exitstatus.startsWith('WARNINGS')) return 0;
        process.stderr.write(`The task ended: ${exitstatus}\n`);
        return FAILED;
      }
    } catch (error) {
      if (!(error instanceof ProxmoxError) || ++missed > MAX_MISSED_POLLS) throw error;
    }
    await sleep(POLL_MS);
  }
}

async function runPvesh(api: ProxmoxApi, [verb, path = '']: string[], options: Map<string, string>): Promise<number> {
  if (verb !== 'get') throw new ProxmoxError('Only "pvesh get" is supported over the API.');
  const { 'output-format': _format, ...params } = Object.fromEntries(options);
  // Asking the cluster needs more rights than a backup. agent.yaml names this node.
  const data =
    path === '/cluster/status' ? [{ type: 'node', name: api.node, local: 1 }] : await api.call('GET', path, params);
  process.stdout.write(`${JSON.stringify(data)}\n`);
  return 0;
}

async function runPvesm(api: ProxmoxApi, [verb, second = '']: string[], options: Map<string, string>): Promise<number> {
  if (verb === 'status') {
    const storage = options.get('storage') ?? '';
    const { active, type } = await api.call<{ active?: number; type?: string }>(
      'GET',
      `/nodes/${api.node}/storage/${encodeURIComponent(storage)}/status`,
    );
    process.stdout.write(`${storage} ${type ?? 'unknown'} ${active ? 'active' : 'inactive'}\n`);
    return 0;
  }
  if (verb === 'prune-backups') {
    const keep = [...options]
      .flatMap(([name, value]) => (name.startsWith('keep-') ? [`${name}=${value}`] : []))
      .join(',');
    const params = { 'prune-backups': keep, vmid: options.get('vmid') ?? '', type: options.get('type') ?? 'qemu' };
    const path = `/nodes/${api.node}/storage/${encodeURIComponent(second)}/prunebackups`;
    if (options.has('dry-run')) {
      for (const { volid, mark } of await api.call<{ volid: string; mark: string }[]>('GET', path, params))
        process.stdout.write(`${volid} ${params.type}/${params.vmid} ${mark}\n`);
      return 0;
    }
    await api.call('DELETE', path, params);
    return 0;
  }
  throw new ProxmoxError(`"pvesm ${verb}" is not supported over the API, which has no files.`);
}

async function runConfig(api: ProxmoxApi, type: string, id: string): Promise<number> {
  const config = await api.call<Record<string, unknown>>(
    'GET',
    `/nodes/${api.node}/${type}/${encodeURIComponent(id)}/config`,
  );
  for (const [key, value] of Object.entries(config)) process.stdout.write(`${key}: ${String(value)}\n`);
  return 0;
}
