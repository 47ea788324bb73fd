import { Failure } from '../../plan/failure.ts';
import type { HostReader, Plan, StartStep } from '../../plan/plan.ts';
import { type Intent, type PlanContext, parseDuration } from '../executor.ts';
import { checkStorage, queryProxmox } from './guest.ts';

export type VmRestore = Extract<Intent, { action: 'restore'; of: { kind: 'vm_proxmox' } }>;

const MINUTE = 60_000;
const DAY = 1440 * MINUTE;

interface ListedVmBackup {
  volid: string;
  size: number;
  /** Seconds since 1970. */
  ctime: number;
}

/**
 * Plans a new guest from a backup; it never replaces an existing one. Throws Failure: `vm-exists`, `backup-unknown`,
 * `storage-inactive`, `proxmox-unreadable`.
 */
export async function planRestore(intent: VmRestore, { site }: PlanContext, host: HostReader): Promise<Plan> {
  const { to_vm_id: id, storage, from, of } = intent;
  await checkStorage(from, site, host);
  await checkStorage(storage, site, host);
  const guests = await queryProxmox<{ vmid?: number; node?: string }[]>(
    ['/cluster/resources', '--type', 'vm'],
    site,
    host,
  );
  if (guests?.some(({ vmid }) => vmid === id)) {
    throw new Failure(
      'vm-exists',
      `The guest ${id} exists already, and a restore never replaces one.`,
      'Set to_vm_id to a free number, check the new guest, and remove the old one by hand.',
    );
  }
  const nodes = await queryProxmox<{ type: string; name: string; local?: number }[]>(['/cluster/status'], site, host);
  const node = nodes?.find(({ type, local }) => type === 'node' && local === 1)?.name ?? 'localhost';
  const content = [`/nodes/${node}/storage/${from}/content`, '--content', 'backup', '--vmid', String(of.vm_id)];
  const backup = selectVmBackup((await queryProxmox<ListedVmBackup[]>(content, site, host)) ?? undefined, intent);
  const isContainer = /vzdump-lxc-|\/ct\//.test(backup.volid);
  const argv: [string, ...string[]] = isContainer
    ? [`${site.proxmox}pct`, 'restore', String(id), backup.volid, '--storage', storage, '--unprivileged', '1']
    : [`${site.proxmox}qmrestore`, backup.volid, String(id), '--storage', storage, '--unique', '1'];
  const start = (name: string, command: [string, ...string[]], more: Partial<StartStep>): StartStep => ({
    do: 'start',
    name,
    argv: command,
    timeout: 5 * MINUTE,
    failure: {
      code: 'vm-restore-failed',
      remedy: `Read the step's output. Run "${isContainer ? 'pct' : 'qm'} config ${id}" to see if an incomplete guest is left. The backup and all other guests are untouched.`,
    },
    ...more,
  });
  return {
    title: `restore of VM ${of.vm_id} to the new VM ${id} on ${storage}`,
    summary: `From ${backup.volid}. It is not started, and gets new MAC addresses.`,
    changes: [{ subject: `VM ${id}`, change: 'create', details: [backup.volid] }],
    steps: [
      start('restore', argv, {
        timeout: intent.timeout === undefined ? 2 * DAY : parseDuration(intent.timeout),
        stallTimeout: intent.stall_timeout === undefined ? 30 * MINUTE : parseDuration(intent.stall_timeout),
        grace: 10 * MINUTE,
        changes: true,
        warnings: ['WARN:', 'WARNING:'],
      }),
      start('see it', [`${site.proxmox}${isContainer ? 'pct' : 'qm'}`, 'config', String(id)], { repeatable: true }),
    ],
    undo: [],
    cleanup: [],
  };
}

/** Returns the newest backup, the newest up to a time, or one whose volume name contains the text. Throws Failure `backup-unknown`. */
function selectVmBackup(all: ListedVmBackup[] | undefined, { at = 'latest', of, from }: VmRestore): ListedVmBackup {
  if (!all) return { volid: `(${at})`, size: 0, ctime: 0 };
  const oldestFirst = all.toSorted((a, b) => a.ctime - b.ctime);
  const isTime = /^\d{4}-\d\d-\d\dT/.test(at);
  const found = oldestFirst.findLast(({ volid, ctime }) =>
    isTime ? ctime * 1000 <= Date.parse(at) : at === 'latest' || volid.includes(at),
  );
  if (found) return found;
  throw new Failure(
    'backup-unknown',
    `${from} has no backup of the guest ${of.vm_id}${at === 'latest' ? '' : `: ${at}`} (or the agent may not see it).`,
    all.length === 0
      ? 'Correct "from" and "of".'
      : `Choose one of: ${oldestFirst.map(({ volid }) => volid).join(', ')}.`,
  );
}
