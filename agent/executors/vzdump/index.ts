import type { HostReader, Plan } from '../../plan/plan.ts';
import {
  type Change,
  defineExecutor,
  type HostSite,
  type Intent,
  type PlanContext,
  parseDuration,
} from '../executor.ts';
import { checkStorage, findGuest, type Guest } from './guest.ts';
import { planRestore, type VmRestore } from './restore.ts';

export type VmBackupIntent = Extract<Intent, { action: 'backup'; backup_type: 'vm_proxmox' }>;

const MINUTE = 60_000;
const DAY = 1440 * MINUTE;
const DEFAULT_LOCK_WAIT = 180;
const DEFAULT_STALL = 30 * MINUTE;
/** Time for vzdump to unlock the guest after SIGTERM, in milliseconds: a killed vzdump leaves the guest locked. */
const GRACE = 10 * MINUTE;

/** Backups and restores of the guests of a Proxmox node, by Proxmox's programs. */
export const vzdump = defineExecutor<VmBackupIntent | VmRestore>({
  kind: 'vzdump',
  supports: (intent): intent is VmBackupIntent | VmRestore =>
    intent.action === 'restore'
      ? typeof intent.of === 'object' && intent.of.kind === 'vm_proxmox'
      : intent.action === 'backup' && 'backup_type' in intent && intent.backup_type === 'vm_proxmox',
  lockSubjects: intent =>
    intent.action === 'restore' ? [`vm ${intent.of.vm_id}`, `vm ${intent.to_vm_id}`] : [`vm ${intent.vm_id}`],
  claimPaths: () => [],
  listHosts: () => [],
  plan: (intent, context, host) =>
    intent.action === 'restore' ? planRestore(intent, context, host) : planBackup(intent, context, host),
});

async function planBackup(
  intent: VmBackupIntent,
  { site, at, document, wantsDiff }: PlanContext,
  host: HostReader,
): Promise<Plan> {
  const { vm_id: id, storage } = intent;
  const guest = await findGuest(intent, site, host);
  await checkStorage(storage, site, host);
  const name = intent.id ?? document.name;
  const keep = pruneRulesOf(intent);
  const wait = minutes(intent.lock_wait) ?? DEFAULT_LOCK_WAIT;
  const prune = keep && pruneArgv(intent, guest, keep, site);
  const stallTimeout = intent.stall_timeout === undefined ? DEFAULT_STALL : parseDuration(intent.stall_timeout);
  const timeout = intent.timeout === undefined ? 2 * DAY : parseDuration(intent.timeout);
  return {
    title: `backup of VM ${id}${guest ? ` (${guest.name})` : ''} to ${storage}`,
    summary: guest?.leftOut.length
      ? `Left out by the guest's own settings: ${guest.leftOut.join(', ')}.`
      : 'All of its disks.',
    changes: [
      { subject: `VM ${id}`, change: 'write', details: [`a backup on ${storage}`] },
      ...(wantsDiff && prune ? await listWouldPrune(prune, host) : []),
    ],
    steps: [
      {
        do: 'start',
        name: 'vzdump',
        argv: [
          `${site.proxmox}vzdump`,
          String(id),
          ...['--storage', storage, '--mode', intent.mode ?? 'snapshot', '--compress', intent.compress ?? 'zstd'],
          // Pruned later, after the new backup is verified.
          ...['--prune-backups', 'keep-all=1', '--lockwait', String(wait)],
          ...(intent.notes === undefined ? [] : [`--notes-template=${notesTemplate(intent.notes)}`]),
        ],
        env: { LC_ALL: 'C.UTF-8' },
        timeout,
        stallTimeout: Math.max(stallTimeout, wait * MINUTE),
        grace: GRACE,
        mustSay: [`Finished Backup of VM ${id}`, 'Backup job finished successfully', ...requiredDisks(guest)],
        mustNotSay: [`ERROR: Backup of VM ${id}`],
        warnings: ['WARN:', 'WARNING:'],
        failure: {
          code: 'vzdump-failed',
          remedy: `Read the step's output. "got timeout" on a lock: wait for the other backup. "VM is locked": check that no backup runs ("qm list"), then run "qm unlock ${id}". vzdump deletes no earlier backup.`,
        },
      },
      {
        do: 'expect-listed',
        name: 'see it on the storage',
        argv: [
          `${site.proxmox}pvesh`,
          'get',
          `/nodes/${guest?.node ?? 'localhost'}/storage/${storage}/content`,
          ...['--content', 'backup', '--vmid', String(id), '--output-format', 'json'],
        ],
        since: at,
        backup: { kind: 'vm_proxmox', name },
        timeout: 5 * MINUTE,
        ...(intent.verify_level === 'listed'
          ? {}
          : { read: { path: [`${site.proxmox}pvesm`, 'path'] as [string, string], timeout, stallTimeout } }),
      },
      ...(prune === undefined
        ? []
        : [
            {
              do: 'start' as const,
              name: 'prune',
              argv: prune,
              timeout: 30 * MINUTE,
              repeatable: true as const,
              failure: {
                code: 'prune-failed',
                remedy: 'Read the step’s output: the agent may need more rights on the storage. The new backup exists.',
              },
            },
          ]),
    ],
    undo: [],
    cleanup: [],
  };
}

function pruneArgv(
  { vm_id: id, storage }: VmBackupIntent,
  guest: Guest | undefined,
  keep: Record<string, number>,
  site: HostSite,
): [string, ...string[]] {
  return [
    `${site.proxmox}pvesm`,
    ...['prune-backups', storage, '--vmid', String(id), '--type', guest?.type ?? 'qemu'],
    ...Object.entries(keep).flatMap(([rule, count]) => [`--keep-${rule}`, String(count)]),
  ];
}

/** Lists the backups that Proxmox would delete now; it prints lines such as `<volume> <guest> remove`. */
async function listWouldPrune(prune: [string, ...string[]], host: HostReader): Promise<Change[]> {
  const answer = await host.ask([...prune, '--dry-run', '1']);
  const lines = answer?.stdout.split('\n').filter(line => /\sremove\s*$/.test(line)) ?? [];
  return lines.map(line => ({
    subject: line.trim().split(/\s+/)[0] ?? '',
    change: 'remove',
    details: ['no rule keeps it, by pvesm'],
  }));
}

/** Returns the rules in Proxmox's terms: `min_keep` is its keep-last. Undefined if nothing is pruned. */
function pruneRulesOf({
  keep,
  retention_days: days,
  min_keep: least = 3,
}: VmBackupIntent): Record<string, number> | undefined {
  if (keep === undefined && days === undefined) return undefined;
  const { last = 0, ...rest } = keep ?? {};
  const others = Object.fromEntries(
    Object.entries(rest).filter(([, count]) => count !== undefined && count > 0),
  ) as Record<string, number>;
  return {
    last: Math.max(last, keep === undefined ? 1 : least),
    ...(days === undefined ? {} : { daily: days }),
    ...others,
  };
}

/** Returns the lines in which vzdump names each disk: without them a backup of half a guest would pass. */
function requiredDisks(guest: Guest | undefined): string[] {
  if (!guest) return [];
  return guest.type === 'qemu'
    ? guest.disks.map(disk => `include disk '${disk}'`)
    : ["including mount point rootfs ('/') in backup"];
}

/** Returns the notes as one line for vzdump, with its template variables broken up. */
function notesTemplate(notes: string): string {
  return notes.replaceAll('\\', '\\\\').replaceAll(/\r?\n/g, '\\n').replaceAll('{{', '{ {');
}

function minutes(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Math.ceil(parseDuration(text) / MINUTE);
}
