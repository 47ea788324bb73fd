import { Failure } from '../../plan/failure.ts';
import type { HostReader } from '../../plan/plan.ts';
import type { HostSite } from '../executor.ts';

/** A guest of this node, and the disks that a backup must contain. */
export interface Guest {
  name: string;
  type: 'qemu' | 'lxc';
  node: string;
  /** Disks of a VM that are part of a backup. */
  disks: string[];
  /** Disks that the guest's settings exclude from backups. */
  leftOut: string[];
}

interface Resource {
  vmid?: number;
  type: string;
  node?: string;
  name?: string;
}

/**
 * Finds the guest on this node: vzdump succeeds without a backup if the guest is on another node. Throws Failure:
 * `program-missing`, `proxmox-unreadable`, `vm-unknown`, `vm-elsewhere`.
 */
export async function findGuest(
  { vm_id: id, expected_node: expected }: { vm_id: number; expected_node?: string | undefined },
  site: HostSite,
  host: HostReader,
): Promise<Guest | undefined> {
  const resources = await queryProxmox<Resource[]>(['/cluster/resources', '--type', 'vm'], site, host);
  const nodes = await queryProxmox<{ type: string; name: string; local?: number }[]>(['/cluster/status'], site, host);
  if (!resources || !nodes) return undefined;
  const ownNode = nodes.find(({ type, local }) => type === 'node' && local === 1)?.name ?? '';
  const found = resources.find(({ vmid }) => vmid === id);
  if (!found) {
    throw new Failure(
      'vm-unknown',
      `There is no guest ${id} in this cluster, or the agent may not see it.`,
      'Correct vm_id; "pvesh get /cluster/resources" lists them.',
    );
  }
  if (found.node !== ownNode || (expected !== undefined && expected !== ownNode)) {
    throw new Failure(
      'vm-elsewhere',
      `The guest ${id} is on the node ${found.node}; this agent is on ${ownNode}${expected === undefined ? '' : `, and ${expected} is expected`}.`,
      'Send the intent to the agent of that node, or move the guest back.',
    );
  }
  const type = found.type === 'lxc' ? 'lxc' : 'qemu';
  const config = await host.ask([`${site.proxmox}${type === 'lxc' ? 'pct' : 'qm'}`, 'config', String(id)]);
  return { name: found.name ?? String(id), type, node: ownNode, ...parseDisks(config?.stdout ?? '') };
}

/** Parses lines such as `scsi0: local-lvm:vm-101-disk-0,size=32G`. `backup=0` excludes a disk; `media=cdrom` is not a disk. */
function parseDisks(config: string): { disks: string[]; leftOut: string[] } {
  const disks: string[] = [];
  const leftOut: string[] = [];
  for (const [, disk = '', value = ''] of config.matchAll(/^((?:scsi|virtio|sata|ide|efidisk|tpmstate)\d+): (.+)$/gm)) {
    if (/(^|,)media=cdrom(,|$)/.test(value) || value.startsWith('none')) continue;
    (/(^|,)backup=(0|no|off)(,|$)/.test(value) ? leftOut : disks).push(disk);
  }
  return { disks, leftOut };
}

/** Reads a path of Proxmox's API by `pvesh`. Throws Failure: `proxmox-unreadable`, `program-missing`. */
export async function queryProxmox<T>(path: string[], site: HostSite, host: HostReader): Promise<T | undefined> {
  const answer = await host.ask([`${site.proxmox}pvesh`, 'get', ...(path as [string]), '--output-format', 'json']);
  if (!answer) return undefined;
  try {
    if (answer.code === 0) return JSON.parse(answer.stdout) as T;
  } catch {
    // Reported below.
  }
  throw new Failure(
    'proxmox-unreadable',
    `"pvesh get ${path.join(' ')}" did not answer: ${answer.stderr.trim().slice(0, 200) || 'not JSON'}`,
    'Run the agent as root on a Proxmox node.',
  );
}

/** Checks that a storage is active. Throws Failure: `storage-inactive`, `program-missing`. */
export async function checkStorage(storage: string, site: HostSite, host: HostReader): Promise<void> {
  const answer = await host.ask([`${site.proxmox}pvesm`, 'status', '--storage', storage]);
  if (!answer) return;
  const line = answer.stdout.split('\n').find(one => one.split(/\s+/)[0] === storage);
  if (answer.code === 0 && line?.split(/\s+/)[2] === 'active') return;
  throw new Failure(
    'storage-inactive',
    `The storage ${storage} is not active on this node: ${(line ?? answer.stderr).trim().slice(0, 200) || 'it is not known'}.`,
    'Run "pvesm status", and check that the share is mounted.',
  );
}
