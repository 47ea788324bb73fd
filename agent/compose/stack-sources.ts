import { isUtf8 } from 'node:buffer';
import { join, normalize } from 'node:path';
import { Failure } from '../plan/failure.ts';
import { isUnder } from '../plan/paths.ts';
import { openFile, readRegular } from '../system/safe-paths.ts';

/** Limits of the files of one stack that a rendering reads. */
const MAX_FILE_BYTES = 1024 * 1024;
/** A YAML file of this size keeps the parser busy for a second at most, however it is written. */
const MAX_YAML_BYTES = 256 * 1024;
const MAX_ALL_BYTES = 16 * 1024 * 1024;
const MAX_FILES = 200;

/** Names the file, line and key that name a file. Called only for a message. */
export type SourcePlace = () => string;

/**
 * The files that a stack's compose config may consist of: those of its folder, as they will be once the run has written its
 * own. Nothing else of the host is read.
 */
export class StackSources {
  readonly dir: string;
  readonly #overlay: ReadonlyMap<string, string | null>;
  readonly #texts = new Map<string, string | undefined>();
  #bytes = 0;

  constructor(dir: string, overlay: Readonly<Record<string, string | null>>) {
    this.dir = dir;
    this.#overlay = new Map(Object.entries(overlay));
  }

  /** The texts that were read, by absolute path. */
  get read(): Map<string, string> {
    return new Map([...this.#texts].flatMap(([path, text]) => (text === undefined ? [] : [[path, text] as const])));
  }

  /**
   * Returns the text of a file, undefined if it is missing. `by` names the place that names it. Throws {@link Failure}
   * `compose-file-outside`, `compose-too-large`, `path-outside` (a link), `not-a-file`, `file-too-large`.
   */
  async text(path: string, by: SourcePlace, maxBytes = MAX_FILE_BYTES): Promise<string | undefined> {
    const file = this.locate(path, by);
    if (this.#texts.has(file)) return this.#texts.get(file);
    const bytes = await this.#bytesOf(file, maxBytes);
    this.#bytes += bytes?.length ?? 0;
    if (this.#bytes > MAX_ALL_BYTES || this.#texts.size >= MAX_FILES) {
      throw new Failure(
        'compose-too-large',
        `${by()}: The stack’s compose config reads more than ${MAX_FILES} files or ${MAX_ALL_BYTES / 2 ** 20} MiB.`,
        'Split the stack. Nothing was started.',
      );
    }
    const text = bytes === undefined ? undefined : decode(bytes, file);
    this.#texts.set(file, text);
    return text;
  }

  /** Returns the absolute path. Throws {@link Failure} `compose-file-outside` if it is not in the stack's folder. */
  locate(path: string, by: SourcePlace): string {
    const file = normalize(path);
    if (isUnder(file, this.dir)) return file;
    throw new Failure(
      'compose-file-outside',
      `${by()}: ${path} is not in the stack’s folder ${this.dir}. Nothing was read.`,
      'Move the file into the stack’s folder, or copy what the stack needs of it. No grant allows other files.',
    );
  }

  /** Returns the text of a compose file. Throws the same. */
  composeText(path: string, by: SourcePlace): Promise<string | undefined> {
    return this.text(path, by, MAX_YAML_BYTES);
  }

  /** Returns the path that a compose file writes, absolute. Throws {@link Failure} `compose-remote`, `compose-file-outside`. */
  localPath(value: unknown, base: string, by: SourcePlace): string {
    if (typeof value !== 'string' || value === '') throw invalidCompose(by, 'A path is not a text');
    if (isRemote(value)) {
      throw new Failure(
        'compose-remote',
        `${by()}: It names a file of another host, which can change after it was checked. Nothing was read.`,
        'Copy the file into the stack’s folder. No grant allows remote files.',
      );
    }
    return this.locate(value.startsWith('/') ? value : join(base, value), by);
  }

  async #bytesOf(file: string, maxBytes: number): Promise<Buffer | undefined> {
    const content = this.#overlay.get(file);
    if (content === null) return undefined;
    if (content !== undefined) return readRegular(content, maxBytes);
    const handle = await openFile(file, this.dir);
    if (!handle) return undefined;
    try {
      // The file may grow meanwhile.
      const buffer = Buffer.alloc(maxBytes + 1);
      let length = 0;
      for (let read = 1; read > 0; length += read)
        read = (await handle.read(buffer, length, buffer.length - length)).bytesRead;
      if (length <= maxBytes) return buffer.subarray(0, length);
      throw new Failure(
        'file-too-large',
        `${file} has more bytes than the limit of ${maxBytes}.`,
        'Make the file smaller. Nothing was started.',
      );
    } finally {
      await handle.close();
    }
  }
}

/** Makes the failure of a config that compose would refuse too, or that the agent can't follow. */
export function invalidCompose(by: SourcePlace, reason: string): Failure {
  return new Failure('compose-invalid', `${by()}: ${reason}.`, 'Correct the compose file. Nothing was started.');
}

function decode(bytes: Buffer, file: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new Failure(
      'compose-invalid',
      `${file}:${findForeignLine(bytes)}: The file is not UTF-8.`,
      'Save it as UTF-8. Nothing was started.',
    );
  }
}

/** Returns the first line that is not UTF-8, counted from 1. A line end is never part of another character there. */
function findForeignLine(bytes: Buffer): number {
  const lines = bytes.toString('latin1').split('\n');
  return lines.findIndex(line => !isUtf8(Buffer.from(line, 'latin1'))) + 1;
}

/** Tells if compose would fetch this path from another host. */
function isRemote(path: string): boolean {
  return /^(oci:|https?:|git:|ssh:|git@|github\.com\/)|:\/\/|\.git(#|$)|^[\w.-]+@[\w.-]+:/i.test(path);
}
