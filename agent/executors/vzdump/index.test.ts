import { describe, expect, it } from 'vitest';
import type { HostReader, StartStep } from '../../plan/plan.ts';
import { composeSite, testExecutorContract } from '../exam.ts';
import type { Executor, Intent, PlanContext } from '../executor.ts';
import { vzdump } from './index.ts';

const backup = (changes: object = {}): Intent =>
  ({ action: 'backup', backup_type: 'vm_proxmox', vm_id: 110, storage: 'nfs', ...changes }) as Intent;
const context = (intent: Intent): PlanContext => ({
  document: { name: 'vm', document: 1, documents: 1, intent },
  run: 'run-00001',
  at: '2026-11-21T06:00:00.000Z',
  site: {
    stacksRoot: '/opt/stacks',
    memory: '/m',
    docker: 'docker',
    verify: [],
    settle: 2_000,
    switchFoldersOf: () => [],
    compose: composeSite,
    proxmox: '',
    backups: { sources: [], destinations: [], remotes: [], databases: [], records: '/var/lib/chatops/backups' },
  },
  files: [],
  configs: '/var/lib/chatops/runs/run-00001/compose-1',
  wantsDiff: false,
});
/** Creates a node that answers from a table; `config` is the output of qm or pct. */
const hostWith = (type: string, config = ''): HostReader => ({
  list: async () => null,
  read: async () => null,
  engine: async () => null,
  render: async () => undefined,
  ask: async ([program, , path]) => {
    const stdout =
      program === 'pvesh'
        ? JSON.stringify(
            path === '/cluster/status'
              ? [{ type: 'node', name: 'pve', local: 1 }]
              : [{ vmid: 110, type, node: 'pve', name: 'guest' }],
          )
        : program === 'pvesm'
          ? 'Name Type Status\nnfs nfs active 1 1 1'
          : config;
    return { code: 0, stdout, stderr: '' };
  },
});
const stepsOf = async (intent: Intent, host: HostReader) =>
  (await (vzdump as unknown as Executor).plan(intent, context(intent), host)).steps as StartStep[];

testExecutorContract(vzdump as unknown as Executor, [
  { name: 'a VM', intent: backup(), context: context(backup()), look: hostWith('qemu', 'scsi0: a:b,size=1G\n') },
  { name: 'a container', intent: backup({ retention_days: 3 }), context: context(backup()), look: hostWith('lxc') },
]);

describe('the plan of a backup of a guest', () => {
  it('expects vzdump to name each disk of the backup, and no other', async () => {
    const config =
      'efidisk0: l:d0,size=4M\nide2: iso:x.iso,media=cdrom\nscsi0: l:d1,backup=1\nscsi1: l:d2,backup=0\nvirtio10: l:d3\nscsihw: virtio-scsi-single\n';
    const [step] = await stepsOf(backup(), hostWith('qemu', config));
    expect(step?.mustSay?.slice(2)).toEqual([
      "include disk 'efidisk0'",
      "include disk 'scsi0'",
      "include disk 'virtio10'",
    ]);
    const [container] = await stepsOf(backup(), hostWith('lxc', 'rootfs: l:d1\n'));
    expect(container?.mustSay?.slice(2)).toEqual(["including mount point rootfs ('/') in backup"]);
  });

  it('passes notes as one line without template variables', async () => {
    const [step] = await stepsOf(backup({ notes: 'a\nb {{x}} \\c' }), hostWith('qemu'));
    expect(step?.argv.at(-1)).toBe('--notes-template=a\\nb { {x}} \\\\c');
  });

  it.each([
    [{}, undefined],
    [{ retention_days: 14 }, ['--keep-last', '1', '--keep-daily', '14']],
    [{ keep: { last: 1, weekly: 4 } }, ['--keep-last', '3', '--keep-weekly', '4']],
    [{ keep: { last: 9 }, min_keep: 2 }, ['--keep-last', '9']],
  ])('translates %o to the keep rules %o', async (changes, keeps) => {
    const prune = (await stepsOf(backup(changes), hostWith('qemu'))).find(({ name }) => name === 'prune');
    expect(prune?.argv.slice(-(keeps?.length ?? 0))).toEqual(keeps);
  });

  it('does not count the wait for another backup as a stall', async () => {
    const [step] = await stepsOf(backup({ lock_wait: '2h', stall_timeout: '5m' }), hostWith('qemu'));
    expect({ stallTimeout: step?.stallTimeout, waits120Minutes: step?.argv.includes('120') }).toEqual({
      stallTimeout: 7_200_000,
      waits120Minutes: true,
    });
  });
});

describe('the plan of a restore of a container', () => {
  it('creates a new unprivileged container by pct', async () => {
    const restore = {
      action: 'restore',
      of: { kind: 'vm_proxmox', vm_id: 110 },
      from: 'nfs',
      to_vm_id: 901,
      storage: 'nfs',
    } as Intent;
    const listing: HostReader = {
      ...hostWith('lxc'),
      ask: async argv =>
        argv.includes('--content')
          ? {
              code: 0,
              stdout: '[{"volid":"nfs:backup/vzdump-lxc-110-2026_01_01-00_00_00.tar.zst","size":1,"ctime":5}]',
              stderr: '',
            }
          : hostWith('lxc').ask(argv),
    };
    const [step, check] = await stepsOf(restore, listing);
    expect(step?.argv).toEqual([
      ...['pct', 'restore', '901', 'nfs:backup/vzdump-lxc-110-2026_01_01-00_00_00.tar.zst'],
      ...['--storage', 'nfs', '--unprivileged', '1'],
    ]);
    expect(check?.argv).toEqual(['pct', 'config', '901']);
  });
});
