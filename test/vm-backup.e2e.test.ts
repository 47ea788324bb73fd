import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Finished } from './stand/runner.ts';
import { LABEL, World } from './stand/world.ts';

let world: World;
let node: string;
beforeAll(async () => {
  world = new World({ allow: [{ actions: ['backup', 'restore'], stacks: ['*'], require_labels: [LABEL] }] });
  node = join(world.dir, 'node');
  cpSync('test/doubles/proxmox', node, { recursive: true });
  await world.github.start();
  await world.host.start({ proxmox: { programs: node } });
});
afterAll(() => world[Symbol.asyncDispose]());
beforeEach(() => {
  rmSync(join(node, 'state'), { recursive: true, force: true });
  mkdirSync(join(node, 'state', 'dump'), { recursive: true });
});

const outcome = ({ outputs }: Finished) => ({ status: outputs.status, reason: outputs.reason });
const text = (name: string) =>
  existsSync(join(node, 'state', name)) ? readFileSync(join(node, 'state', name), 'utf8') : '';
function job(scenario: string, more = 'retention_days: 14\nnotes: "nightly, from C:\\\\dir"\n', vm = 101) {
  writeFileSync(join(node, 'state', 'scenario'), scenario);
  const merge = world.merge({
    'chatops/intents/vm.yaml': `label_required: ${LABEL}\naction: backup\nbackup_type: vm_proxmox\nvm_id: ${vm}\nstorage: backup-nfs\n${more}`,
  });
  return (changes = {}) => world.begin(merge, 'vm', changes);
}
const backup = (scenario: string, more?: string, vm?: number) => job(scenario, more, vm)().finished;

describe('a backup of a Proxmox guest', () => {
  it('makes a guest backup by vzdump, verifies it by the log and the storage, and prunes afterwards', async () => {
    const done = await backup('ok');
    expect(outcome(done), done.log).toEqual({ status: 'succeeded', reason: '' });
    expect(text('calls').trim()).toBe(
      '101 --storage backup-nfs --mode snapshot --compress zstd --prune-backups keep-all=1 --lockwait 180 --notes-template=nightly, from C:\\\\dir',
    );
    expect(text('pruned').trim()).toBe('prune-backups backup-nfs --vmid 101 --type qemu --keep-last 1 --keep-daily 14');
    expect(done.log).toContain('Left out by the guest');
    const [document] = JSON.parse(done.outputs.result ?? '').receipts[0].documents;
    expect(document.backup).toMatchObject({ kind: 'vm_proxmox', name: 'vm', verified: true });
    expect(await world.host.metrics()).toMatch(
      /chatops_backup_last_success_timestamp_seconds\{kind="vm_proxmox",name="vm"\} 1\d{9}/,
    );
  });

  it('reports a guest backup as not read back if the storage has no files or the intent asks only for a listing', async () => {
    writeFileSync(join(node, 'state', 'no-path'), '');
    const done = await backup('ok');
    expect({ ...outcome(done), reportsNotReadBack: done.log.includes('not read back') }, done.log).toEqual({
      status: 'succeeded',
      reason: '',
      reportsNotReadBack: true,
    });
    const listed = await backup('ok', 'verify_level: listed\n');
    const isVerified = (job: Finished) => JSON.parse(job.outputs.result ?? '').receipts[0].documents[0].backup.verified;
    expect({ withoutFiles: isVerified(done), listed: isVerified(listed) }).toEqual({
      withoutFiles: false,
      listed: false,
    });
  });

  it('plans a guest backup with the archives that Proxmox would prune', async () => {
    const plan = await job('ok')({ inputs: { mode: 'plan' } }).finished;
    expect(plan.log).toContain(
      'backup-nfs:backup/vzdump-qemu-101-2025_01_01-00_00_00.vma.zst: remove (no rule keeps it, by pvesm)',
    );
    expect({ calls: text('calls'), pruned: text('pruned') }).toEqual({ calls: '', pruned: '' });
  });

  it('succeeds when vzdump warns, and when vzdump cannot send its mail', async () => {
    const warned = await backup('warnings');
    expect(
      { ...outcome(warned), reportsWarning: warned.log.includes('with warnings: WARN: EFI disk') },
      warned.log,
    ).toEqual({ status: 'succeeded', reason: '', reportsWarning: true });
    expect(outcome(await backup('mail'))).toEqual({ status: 'succeeded', reason: '' });
  });

  it.each([
    [
      'prints nothing and exits with 0 (the guest is on another node)',
      'elsewhere',
      'vzdump-failed',
      'did not print "Finished Backup of VM 101"',
    ],
    ['leaves out a disk', 'disk-missing', 'vzdump-failed', 'did not print "include disk \'virtio1\'"'],
    ['reports a finished guest and a failed job', 'misleading', 'vzdump-failed', 'exit code 255'],
    ['reports success without an archive', 'nothing-there', 'backup-not-listed', 'lists no new backup'],
    ['leaves a truncated archive in the storage', 'cut', 'backup-broken', 'premature'],
    ['finds another backup running', 'lock', 'vzdump-failed', 'got timeout'],
    ['reaches the limit of the storage', 'limit', 'vzdump-failed', 'max backup limit'],
  ])('fails and prunes nothing when vzdump %s', async (_, scenario, code, message) => {
    const done = await backup(scenario);
    expect(outcome(done), done.log).toEqual({ status: 'failed', reason: code });
    expect(done.log).toContain(message);
    expect(text('pruned')).toBe('');
  });

  it.each([
    ['an unknown guest', 999, '', 'vm-unknown'],
    ['a guest of another node', 202, '', 'vm-elsewhere'],
    ['a guest that is expected elsewhere', 101, 'expected_node: other\n', 'vm-elsewhere'],
  ])('fails a backup of %s before it calls vzdump', async (_, vm, more, code) => {
    expect(outcome(await backup('ok', more, vm))).toEqual({ status: 'failed', reason: code });
    expect(text('calls')).toBe('');
  });

  it('fails a backup to an inactive storage before it calls vzdump', async () => {
    writeFileSync(join(node, 'state', 'storage'), 'inactive');
    expect(outcome(await backup('ok'))).toEqual({ status: 'failed', reason: 'storage-inactive' });
    expect(text('calls')).toBe('');
  });

  it('lets vzdump clean up after itself when the backup is cancelled', async () => {
    const begin = job('hangs');
    const { child, finished } = begin({
      onLog: (chunk: string) => chunk.includes('  1% (408.0') && child.kill('SIGINT'),
    });
    const done = await finished;
    expect(outcome(done), done.log).toEqual({ status: 'cancelled', reason: 'cancelled' });
    expect(done.log).toContain('interrupted by signal');
    expect(readdirSync(join(node, 'state', 'dump'))).toEqual([]);
  });

  it('kills a vzdump that hangs, and names its process', async () => {
    const done = await backup('hangs', 'timeout: 2s\n');
    expect(outcome(done), done.log).toEqual({ status: 'failed', reason: 'step-timeout' });
    expect(done.log).toMatch(/vzdump 101 .*\(pid \d+\) did not end within 2 s/);
  });

  it('continues a guest backup when the agent is killed, and verifies it after the restart', async () => {
    let killed = false;
    const begin = job('slow');
    const { finished } = begin({
      onLog: (chunk: string) => {
        if (killed || !chunk.includes('  1% (408.0')) return;
        killed = true;
        void world.host.stop('SIGKILL').then(() => world.host.start({ proxmox: { programs: node } }));
      },
    });
    const done = await finished;
    expect({ killed, ...outcome(done) }, done.log).toEqual({ killed: true, status: 'succeeded', reason: '' });
    expect(text('calls').trim().split('\n')).toHaveLength(1);
  });
});

describe('a restore of a Proxmox guest', () => {
  const restore = (more: string) =>
    world.deploy(
      world.merge({
        'chatops/intents/back.yaml': `label_required: ${LABEL}\naction: restore\nof: {kind: vm_proxmox, vm_id: 101}\nfrom: backup-nfs\nstorage: local-lvm\n${more}`,
      }),
      'back',
    );

  it('restores the newest backup to a new guest, and never replaces a guest', async () => {
    expect(outcome(await backup('ok'))).toEqual({ status: 'succeeded', reason: '' });
    const done = await restore('to_vm_id: 901\n');
    expect(outcome(done), done.log).toEqual({ status: 'succeeded', reason: '' });
    const [archive = ''] = readdirSync(join(node, 'state', 'dump'));
    expect(text('restored').trim()).toBe(`backup-nfs:backup/${archive} 901 --storage local-lvm --unique 1`);
    expect(outcome(await restore('to_vm_id: 202\n'))).toEqual({ status: 'failed', reason: 'vm-exists' });
    const unknown = await restore('to_vm_id: 902\nat: "2020-01-01T00:00:00Z"\n');
    expect(outcome(unknown), unknown.log).toEqual({ status: 'failed', reason: 'backup-unknown' });
    const broken = join(node, 'state', 'dump', archive);
    writeFileSync(broken, readFileSync(broken).subarray(0, -4));
    expect(outcome(await restore('to_vm_id: 902\n'))).toEqual({ status: 'failed', reason: 'vm-restore-failed' });
  });
});
