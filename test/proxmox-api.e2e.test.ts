import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { parseConfig } from '../agent/config/load.ts';
import { callsOf, ProxmoxApiDouble } from './doubles/proxmox-api.ts';
import { LABEL, World } from './stand/world.ts';

let world: World;
let node: string;
let api: ProxmoxApiDouble;
const at = (name: string) => join(world.dir, name);
const config = (changes: object = {}) => ({
  proxmox: { api: { url: api.url, node: 'pve', token_file: at('token'), ca_file: at('ca.pem'), ...changes } },
});
beforeAll(async () => {
  world = new World({ allow: [{ actions: ['backup', 'restore'], stacks: ['*'], require_labels: [LABEL] }] });
  node = at('node');
  cpSync('test/doubles/proxmox', node, { recursive: true });
  const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  const names = ['-subj', '/CN=pve', '-addext', 'subjectAltName=IP:127.0.0.1'];
  execFileSync('openssl', [...args, ...names, '-keyout', at('ca.key'), '-out', at('ca.pem')], { stdio: 'ignore' });
  api = await new ProxmoxApiDouble(node).start({ cert: readFileSync(at('ca.pem')), key: readFileSync(at('ca.key')) });
  writeFileSync(at('token'), `${api.token}\n`, { mode: 0o600 });
  await world.github.start();
  await world.host.start(config());
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
  api.stop();
});
beforeEach(() => {
  rmSync(join(node, 'state'), { recursive: true, force: true });
  mkdirSync(join(node, 'state', 'dump'), { recursive: true });
  api.asked.length = 0;
});

function job(scenario: string, more = 'retention_days: 14\nnotes: "--script=/tmp/x"\n') {
  writeFileSync(join(node, 'state', 'scenario'), scenario);
  const merge = world.merge({
    'chatops/intents/vm.yaml': `label_required: ${LABEL}\naction: backup\nbackup_type: vm_proxmox\nvm_id: 101\nstorage: backup-nfs\n${more}`,
  });
  return (changes = {}) => world.begin(merge, 'vm', changes).finished;
}

describe('a backup over the Proxmox API', () => {
  it('backs up a guest over the API with only a token, and proves it by the task’s log and the storage’s list', async () => {
    const done = await job('ok')();
    expect({ status: done.outputs.status, reason: done.outputs.reason }, done.log).toEqual({
      status: 'succeeded',
      reason: '',
    });
    expect(callsOf(node)).toBe(
      '101 --storage backup-nfs --mode snapshot --compress zstd --prune-backups keep-all=1 --lockwait 180 --notes-template --script=/tmp/x',
    );
    expect(done.log).toContain("INFO: include disk 'virtio1'");
    expect(done.log).toContain('INFO: Backup job finished successfully');
    // The API offers no files to read back, and the log says so.
    expect(done.log).toContain('not read back');
    expect(readFileSync(join(node, 'state', 'pruned'), 'utf8')).toContain(
      'prune-backups=keep-last=1,keep-daily=14&vmid=101&type=qemu',
    );
    const [document] = JSON.parse(done.outputs.result ?? '').receipts[0].documents;
    expect(document.backup).toMatchObject({ kind: 'vm_proxmox', verified: false });
    // No call needs more than VM.Backup, VM.Audit and Datastore.AllocateSpace.
    const calls = new Set(
      api.asked.map(line =>
        line
          .split(/[ ?]/)
          .slice(0, 2)
          .join(' ')
          .replace(/UPID[^/]*/, 'UPID'),
      ),
    );
    expect([...calls].sort()).toEqual([
      'DELETE /nodes/pve/storage/backup-nfs/prunebackups',
      'GET /cluster/resources',
      'GET /nodes/pve/qemu/101/config',
      'GET /nodes/pve/storage/backup-nfs/content',
      'GET /nodes/pve/storage/backup-nfs/status',
      'GET /nodes/pve/tasks/UPID/log',
      'GET /nodes/pve/tasks/UPID/status',
      'POST /nodes/pve/vzdump',
    ]);
  });

  it('lists in a plan over the API the backups that it would prune', async () => {
    const plan = await job('ok')({ inputs: { mode: 'plan' } });
    expect(plan.log).toContain('vzdump-qemu-101-2025_01_01-00_00_00.vma.zst: remove (no rule keeps it, by pvesm)');
    expect(callsOf(node)).toBe('');
  });

  it.each([
    ['lock', 'vzdump-failed', 'got timeout'],
    ['misleading', 'vzdump-failed', 'Backup job finished with errors'],
    ['disk-missing', 'vzdump-failed', 'did not print "include disk \'virtio1\'"'],
    ['nothing-there', 'backup-not-listed', 'lists no new backup'],
  ])('stores no backup and prunes none if the task over the API fails: %s', async (scenario, code, message) => {
    const done = await job(scenario)();
    expect({ reason: done.outputs.reason, logsMessage: done.log.includes(message) }, done.log).toEqual({
      reason: code,
      logsMessage: true,
    });
    expect(existsSync(join(node, 'state', 'pruned'))).toBe(false);
  });

  it('stops the Proxmox task when the backup is cancelled', async () => {
    writeFileSync(join(node, 'state', 'scenario'), 'hangs');
    const merge = world.merge({
      'chatops/intents/vm.yaml': `label_required: ${LABEL}\naction: backup\nbackup_type: vm_proxmox\nvm_id: 101\nstorage: backup-nfs\n`,
    });
    const { child, finished } = world.begin(merge, 'vm', {
      onLog: (chunk: string) => chunk.includes('  1% (408.0') && child.kill('SIGINT'),
    });
    const done = await finished;
    expect(
      { status: done.outputs.status, logsInterrupt: done.log.includes('interrupted by signal') },
      done.log,
    ).toEqual({ status: 'cancelled', logsInterrupt: true });
    expect(api.asked.some(line => line.startsWith('DELETE /nodes/pve/tasks/UPID'))).toBe(true);
  });

  it('refuses a backup over the API with a wrong token or an unknown certificate', async () => {
    writeFileSync(at('token'), 'other@pve!x=1\n', { mode: 0o600 });
    const wrong = await job('ok')();
    expect({ reason: wrong.outputs.reason, logsStatus: wrong.log.includes('401') }, wrong.log).toEqual({
      reason: 'proxmox-unreadable',
      logsStatus: true,
    });
    expect(wrong.log).not.toContain('other@pve!x=1');
    writeFileSync(at('token'), `${api.token}\n`, { mode: 0o600 });
    await world.host.stop();
    await world.host.start(config({ ca_file: undefined }));
    const stranger = await job('ok')();
    expect(
      { reason: stranger.outputs.reason, logsCertificate: /certificate/.test(stranger.log) },
      stranger.log,
    ).toEqual({
      reason: 'proxmox-unreadable',
      logsCertificate: true,
    });
    await world.host.stop();
    await world.host.start(config());
  });

  it('does not support a restore over the API', async () => {
    expect((await job('ok')()).outputs.status).toBe('succeeded');
    const merge = world.merge({
      'chatops/intents/back.yaml': `label_required: ${LABEL}\naction: restore\nof: {kind: vm_proxmox, vm_id: 101}\nfrom: backup-nfs\nstorage: backup-nfs\nto_vm_id: 901\n`,
    });
    const done = await world.deploy(merge, 'back');
    expect(
      { reason: done.outputs.reason, logsUnsupported: done.log.includes('not supported over the API') },
      done.log,
    ).toEqual({ reason: 'vm-restore-failed', logsUnsupported: true });
  });

  it('refuses at load a Proxmox API together with programs', async () => {
    world.host.configure({ proxmox: { ...config().proxmox, programs: node } });
    const text = readFileSync(world.host.configFile, 'utf8');
    expect(() => parseConfig(text, 'agent.yaml')).toThrow('Expected either "programs" or "api"');
    world.host.configure(config());
  });
});
