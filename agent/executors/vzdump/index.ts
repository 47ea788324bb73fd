import { CannotPlan, type Look, type Plan } from '../../plan.ts';
import { type Context, type Executor, type Intent, parseDuration, type Site } from '../executor.ts';
import { findGuest, type Guest } from './guest.ts';

export type VmBackup = Extract<Intent, { action: 'backup'; backup_type: 'vm_proxmox' }>;

const MINUTE = 60_000;
const DAY = 1440 * MINUTE;
const DEFAULT_LOCK_WAIT = 180;
const DEFAULT_STALL = 30 * MINUTE;
/** vzdump puts the guest right when it is told to end: killing it leaves the guest locked. */
const GRACE = 10 * MINUTE;

/** Guests of a Proxmox node, by its own vzdump. */
export const vzdump: Executor<VmBackup> = {
  kind: 'vzdump',
  takes: (intent): intent is VmBackup =>
    intent.action === 'backup' && 'backup_type' in intent && intent.backup_type === 'vm_proxmox',
  subject: intent => `vm ${intent.vm_id}`,
  claims: () => [],
  asks: () => [],
  plan,
};

async function plan(intent: VmBackup, { site, at, document }: Context, look: Look): Promise<Plan> {
  const { vm_id: id, storage } = intent;
  const guest = await findGuest(intent, site, look);
  await checkStorage(storage, site, look);
  const name = intent.id ?? document.name;
  const keep = rulesOf(intent);
  const wait = minutes(intent.lock_wait) ?? DEFAULT_LOCK_WAIT;
  return {
    title: `backup of VM ${id}${guest ? ` (${guest.name})` : ''} to ${storage}`,
    summary: guest?.leftOut.length
      ? `Left out by the guest's own settings: ${guest.leftOut.join(', ')}.`
      : 'All of its disks.',
    changes: [{ subject: `VM ${id}`, change: 'write', details: [`a backup on ${storage}`] }],
    steps: [
      {
        do: 'start',
        name: 'vzdump',
        argv: [
          `${site.proxmox}vzdump`,
          String(id),
          ...['--storage', storage, '--mode', intent.mode ?? 'snapshot', '--compress', intent.compress ?? 'zstd'],
          // Pruned later, once the new one is proved.
          ...['--prune-backups', 'keep-all=1', '--lockwait', String(wait)],
          ...(intent.notes === undefined ? [] : ['--notes-template', notesTemplate(intent.notes)]),
        ],
        env: { LC_ALL: 'C.UTF-8' },
        timeout: intent.timeout === undefined ? 2 * DAY : parseDuration(intent.timeout),
        stallTimeout: Math.max(
          intent.stall_timeout === undefined ? DEFAULT_STALL : parseDuration(intent.stall_timeout),
          wait * MINUTE,
        ),
        grace: GRACE,
        mustSay: [`Finished Backup of VM ${id}`, 'Backup job finished successfully', ...mustInclude(guest)],
        mustNotSay: [`ERROR: Backup of VM ${id}`],
        warnings: ['WARN:', 'WARNING:'],
        failure: {
          code: 'vzdump-failed',
          remedy: `Read the step's output. "got timeout" on a lock: another backup runs. "VM is locked": see that no backup runs ("qm list"), then "qm unlock ${id}". The earlier backups are untouched.`,
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
      },
      ...(keep === undefined
        ? []
        : [
            {
              do: 'start' as const,
              name: 'prune',
              argv: [
                `${site.proxmox}pvesm`,
                'prune-backups',
                storage,
                ...['--vmid', String(id), '--type', guest?.type ?? 'qemu'],
                ...Object.entries(keep).flatMap(([rule, count]) => [`--keep-${rule}`, String(count)]),
              ] as [string, ...string[]],
              timeout: 30 * MINUTE,
              repeatable: true as const,
              failure: {
                code: 'prune-failed',
                remedy: 'The new backup is there. Read the step’s output: the storage may want more rights.',
              },
            },
          ]),
    ],
    undo: [],
    cleanup: [],
  };
}

/** Proxmox's own rules; `min_keep` is its keep-last. Undefined where nothing is pruned. */
function rulesOf({ keep, retention_days: days, min_keep: least = 3 }: VmBackup): Record<string, number> | undefined {
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

/** The disks that vzdump must name, or a backup of half a guest would pass. */
function mustInclude(guest: Guest | undefined): string[] {
  if (!guest) return [];
  return guest.type === 'qemu'
    ? guest.disks.map(disk => `include disk '${disk}'`)
    : ["including mount point rootfs ('/') in backup"];
}

/** One line, as vzdump wants it: what it would take for a variable is taken apart. */
function notesTemplate(notes: string): string {
  return notes.replaceAll('\\', '\\\\').replaceAll(/\r?\n/g, '\\n').replaceAll('{{', '{ {');
}

/** Throws CannotPlan: `storage-inactive`, `program-missing`. */
async function checkStorage(storage: string, site: Site, look: Look): Promise<void> {
  const answer = await look.ask([`${site.proxmox}pvesm`, 'status', '--storage', storage]);
  if (!answer) return;
  const line = answer.stdout.split('\n').find(one => one.split(/\s+/)[0] === storage);
  if (answer.code === 0 && line?.split(/\s+/)[2] === 'active') return;
  throw new CannotPlan(
    'storage-inactive',
    `The storage ${storage} is not active on this node: ${(line ?? answer.stderr).trim().slice(0, 200) || 'it is not known'}.`,
    'See "pvesm status". A share may not be mounted.',
  );
}

function minutes(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Math.ceil(parseDuration(text) / MINUTE);
}
