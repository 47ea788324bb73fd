import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

interface Task {
  child: ChildProcess;
  log: string[];
  status: string;
  exitstatus?: string;
}

/**
 * Stands in for Proxmox VE's API at the paths that a backup with a token needs, in the documented shapes. The output of
 * vzdump comes from the double of that program, and both share the folder `state`.
 */
export class ProxmoxApiDouble {
  readonly #programs: string;
  readonly #tasks = new Map<string, Task>();
  readonly asked: string[] = [];
  token = 'backup@pve!chatops=00000000-0000-0000-0000-000000000000';
  #server: Server | undefined;

  constructor(programs: string) {
    this.#programs = programs;
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server?.address() as AddressInfo | null)?.port ?? 0}`;
  }

  async start(tls: { cert: Buffer; key: Buffer }): Promise<this> {
    this.#server = createServer(tls, (request, response) => {
      this.#answer(request).then(
        data => response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify({ data })),
        (error: { status?: number; message: string }) => {
          response.statusMessage = error.message;
          response.writeHead(error.status ?? 500).end(JSON.stringify({ data: null }));
        },
      );
    }).listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  stop(): void {
    for (const { child } of this.#tasks.values()) end(child, 'SIGKILL');
    this.#server?.closeAllConnections();
    this.#server?.close();
  }

  async #answer(request: IncomingMessage): Promise<unknown> {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const url = new URL(request.url ?? '/', 'https://pve');
    const path = url.pathname.replace('/api2/json', '');
    const line = `${request.method} ${decodeURIComponent(path)}${url.search}${body && ` ${body}`}`;
    this.asked.push(line);
    if (request.headers.authorization !== `PVEAPIToken=${this.token}`) throw refusal(401, 'no such token');
    const [, task, subpath] = /^\/nodes\/pve\/tasks\/([^/]+)(\/\w+)?$/.exec(path) ?? [];
    if (task !== undefined)
      return this.#task(request.method ?? '', this.#tasks.get(decodeURIComponent(task)), subpath, url.searchParams);
    switch (`${request.method} ${path}`) {
      case 'GET /cluster/resources':
        return [{ type: 'qemu', vmid: 101, node: 'pve', name: 'web', status: 'running' }];
      case 'GET /nodes/pve/qemu/101/config':
        return {
          name: 'web',
          ide2: 'none,media=cdrom',
          scsi0: 'local-lvm:vm-101-disk-0,size=20604M',
          scsi2: 'local-lvm:vm-101-disk-2,backup=0,size=1G',
          virtio1: 'local-lvm:vm-101-disk-1,size=4G',
        };
      case 'GET /nodes/pve/storage/backup-nfs/status':
        return { type: 'nfs', active: 1, enabled: 1, total: 1_000_000, used: 1, avail: 999_999 };
      case 'GET /nodes/pve/storage/backup-nfs/content':
        return this.#content();
      case 'GET /nodes/pve/storage/backup-nfs/prunebackups':
        return [{ volid: 'backup-nfs:backup/vzdump-qemu-101-2025_01_01-00_00_00.vma.zst', mark: 'remove' }];
      case 'DELETE /nodes/pve/storage/backup-nfs/prunebackups':
        writeFileSync(join(this.#programs, 'state', 'pruned'), `${decodeURIComponent(url.search)}\n`, { flag: 'a' });
        return null;
      case 'POST /nodes/pve/vzdump':
        return this.#vzdump(new URLSearchParams(body));
    }
    throw refusal(403, `Permission check failed (${path})`);
  }

  #content(): object[] {
    const dump = join(this.#programs, 'state', 'dump');
    return (existsSync(dump) ? readdirSync(dump) : [])
      .filter(name => name.endsWith('.zst'))
      .map(name => {
        const { size, mtimeMs } = statSync(join(dump, name));
        return {
          volid: `backup-nfs:backup/${name}`,
          format: 'vma.zst',
          size,
          ctime: Math.floor(mtimeMs / 1000),
          vmid: 101,
        };
      });
  }

  #vzdump(params: URLSearchParams): string {
    const args = [...params].flatMap(([name, value]) => (name === 'vmid' ? [] : [`--${name}`, value]));
    const child = spawn(join(this.#programs, 'vzdump'), [params.get('vmid') ?? '', ...args], { detached: true });
    const task: Task = { child, log: [], status: 'running' };
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => task.log.push(...chunk.split('\n').filter(Boolean)));
    child.on('close', code => {
      task.status = 'stopped';
      task.exitstatus = code === 0 ? 'OK' : 'job errors';
    });
    const id = `UPID:pve:0000${this.#tasks.size}:00000000:00000000:vzdump:101:backup@pve!chatops:`;
    this.#tasks.set(id, task);
    return id;
  }

  #task(method: string, task: Task | undefined, subpath: string | undefined, query: URLSearchParams): unknown {
    if (!task) throw refusal(400, 'no such task');
    if (method === 'DELETE') {
      end(task.child, 'SIGTERM');
      return null;
    }
    if (subpath === '/status')
      return { status: task.status, ...(task.exitstatus === undefined ? {} : { exitstatus: task.exitstatus }) };
    const start = Number(query.get('start') ?? 0);
    return task.log
      .slice(start, start + Number(query.get('limit') ?? 50))
      .map((line, index) => ({ n: start + index + 1, t: line }));
  }
}

/** Signals the whole process group, as Proxmox does. */
function end({ pid, exitCode, signalCode }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, signal);
}

function refusal(status: number, message: string): Error {
  return Object.assign(new Error(message), { status });
}

/** Returns the arguments of all calls to the double of vzdump. */
export function callsOf(programs: string): string {
  const file = join(programs, 'state', 'calls');
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : '';
}
