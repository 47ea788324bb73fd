import { spawn } from 'node:child_process';
import { lstat, readdir, readFile } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { messageOf } from '../protocol/refusal.ts';
import { actionRefusals } from './refusals.ts';

export interface TreeEntry {
  path: string;
  kind: 'file' | 'link' | 'submodule';
  executable: boolean;
}

/** The files of the repository, at a commit or in the workspace. */
export interface FileTree {
  list(): Promise<TreeEntry[]>;
  read(paths: string[]): Promise<Buffer[]>;
}

/** Reads files of a commit from git: changes that earlier steps of the job made to the workspace have no effect. */
export async function gitTree(dir: string, sha: string): Promise<FileTree> {
  if (!/^[0-9a-f]{40}([0-9a-f]{24})?$/.test(sha)) throw actionRefusals.commitNotCheckedOut(sha);
  const listing = await git(dir, ['ls-tree', '-r', '-z', '--full-tree', sha]).catch(() => {
    throw actionRefusals.commitNotCheckedOut(sha);
  });
  const blobs = new Map<string, TreeEntry & { object: string }>();
  for (const row of listing.toString('utf8').split('\0').filter(Boolean)) {
    const tab = row.indexOf('\t');
    const [mode = '', , object = ''] = row.slice(0, tab).split(' ');
    const kind = mode === '120000' ? 'link' : mode === '160000' ? 'submodule' : 'file';
    blobs.set(row.slice(tab + 1), { path: row.slice(tab + 1), kind, executable: mode === '100755', object });
  }
  return {
    list: async () => [...blobs.values()],
    async read(paths) {
      const objects = paths.map(path => blobs.get(path)?.object ?? '');
      const output = await git(dir, ['cat-file', '--batch'], `${objects.join('\n')}\n`).catch(error => {
        // A partial clone fetches a missing object, which fails without its remote.
        throw actionRefusals.checkoutUnreadable(messageOf(error).slice(0, 300));
      });
      return splitBatch(output, objects.length);
    },
  };
}

/** Reads the files of a folder as they are now, to check them before they are committed. */
export function workspaceTree(dir: string): FileTree {
  return {
    async list() {
      const names = await readdir(dir, { recursive: true, withFileTypes: true });
      const files = names.filter(entry => !entry.isDirectory() && !entry.parentPath.split(sep).includes('.git'));
      return Promise.all(
        files.map(async entry => {
          const path = join(entry.parentPath, entry.name);
          const kind = entry.isSymbolicLink() ? ('link' as const) : ('file' as const);
          const executable = ((await lstat(path)).mode & 0o111) !== 0;
          return { path: relative(dir, path).split(sep).join('/'), kind, executable };
        }),
      );
    },
    read: paths => Promise.all(paths.map(path => readFile(join(dir, path)))),
  };
}

/** Splits the output of `git cat-file --batch`: for each object a line "object type size", its bytes and a newline. */
function splitBatch(output: Buffer, count: number): Buffer[] {
  const found: Buffer[] = [];
  let at = 0;
  for (let index = 0; index < count; index++) {
    const end = output.indexOf(0x0a, at);
    const size = Number(output.toString('latin1', at, end).split(' ')[2]);
    if (end < 0 || !Number.isInteger(size)) throw actionRefusals.checkoutUnreadable('git has not all of its objects');
    found.push(output.subarray(end + 1, end + 1 + size));
    at = end + 1 + size + 1;
  }
  return found;
}

function git(dir: string, args: string[], input?: string): Promise<Buffer> {
  return new Promise((done, fail) => {
    // In a container the workspace may belong to another user.
    const child = spawn('git', ['-C', dir, '-c', 'safe.directory=*', ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    const out: Buffer[] = [];
    let errors = '';
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', chunk => {
      errors += String(chunk);
    });
    child.on('error', fail);
    child.on('close', code =>
      code === 0 ? done(Buffer.concat(out)) : fail(new Error(`git ${args[0]}: ${errors.trim()}`)),
    );
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}
