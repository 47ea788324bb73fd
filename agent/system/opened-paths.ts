import { type FileHandle, readlink } from 'node:fs/promises';
import { Failure } from '../plan/failure.ts';
import type { OpenedPath } from '../plan/plan.ts';
import { descriptorPath, openFile, openFolder, refuseLinks } from './safe-paths.ts';

/** The standard streams of a process come before the descriptors that it is given. */
const FIRST_DESCRIPTOR = 3;

interface Opened {
  wanted: OpenedPath;
  handle: FileHandle;
  /** The path without links, when it was opened. */
  real: string;
}

/** The paths that were opened for one process. */
export class OpenedPaths implements AsyncDisposable {
  /** The longest path first, so that a file comes before its folder. */
  readonly #all: Opened[];

  private constructor(all: Opened[]) {
    this.#all = all.toSorted((a, b) => b.wanted.path.length - a.wanted.path.length);
  }

  /** Throws {@link Failure} `path-outside` (or the path's own code) for a link, `not-a-file` and `path-missing`. */
  static async open(list: OpenedPath[]): Promise<OpenedPaths> {
    const opened: Opened[] = [];
    try {
      for (const wanted of list) opened.push(await openPath(wanted));
      return new OpenedPaths(opened);
    } catch (error) {
      for (const { handle } of opened) await handle.close();
      throw error;
    }
  }

  get descriptors(): number[] {
    return this.#all.map(({ handle }) => handle.fd);
  }

  /** Returns the command line with the paths by which the process itself reaches what was opened. */
  inArguments([program, ...args]: readonly [string, ...string[]]): [string, ...string[]] {
    return [program, ...args.map(arg => this.#inArgument(arg))];
  }

  #inArgument(arg: string): string {
    const uri = this.#all.find(({ wanted }) => wanted.as === 'name' && arg.startsWith(`${fileUri(wanted.path)}?`));
    if (uri) return arg.replace(fileUri(uri.wanted.path), fileUri(uri.real));
    const index = this.#findIndex(arg);
    const found = this.#all[index];
    if (!found) return arg;
    if (found.wanted.as === 'name') return found.real;
    return `/proc/self/fd/${FIRST_DESCRIPTOR + index}${arg.slice(found.wanted.path.length)}`;
  }

  /** Returns the path by which this process reaches what was opened; the path itself if it was not opened. */
  ownPath(path: string): string {
    const found = this.#all[this.#findIndex(path)];
    return found ? descriptorPath(found.handle) + path.slice(found.wanted.path.length) : path;
  }

  #findIndex(path: string): number {
    const index = this.#all.findIndex(({ wanted }) => {
      if (path === wanted.path) return true;
      return wanted.as === 'folder' && path.startsWith(`${wanted.path}/`);
    });
    const rest = index < 0 ? '' : path.slice(this.#all[index]?.wanted.path.length);
    // A folder in between would be found by its name: it has to be opened, too.
    if (!/^(\/[^/]*)?$/.test(rest) || rest === '/..') throw new Error(`${path} is not an entry of an opened folder`);
    return index;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#all.map(({ handle }) => handle.close()));
  }
}

async function openPath(wanted: OpenedPath): Promise<Opened> {
  const { path, root, as, make, depth, code } = wanted;
  try {
    if (depth !== undefined) {
      await using folder = await openFolder(path, root);
      if (folder) await refuseLinks(folder, depth);
    }
    const handle =
      as === 'folder'
        ? (await openFolder(path, root, make === undefined ? {} : { make }))?.handle
        : await openFile(path, root);
    if (handle) return { wanted, handle, real: await readlink(descriptorPath(handle)) };
  } catch (error) {
    if (!(error instanceof Failure) || code === undefined || error.code !== 'path-outside') throw error;
    throw new Failure(code, error.message, error.remedy);
  }
  throw new Failure('path-missing', `${path} does not exist.`, 'Mount it, or correct the path.');
}

/** Returns a file's path as SQLite reads it in a URI. */
function fileUri(path: string): string {
  return `file:${path.split('/').map(encodeURIComponent).join('/')}`;
}
