import { randomBytes } from 'node:crypto';
import type { Writable } from 'node:stream';

/** Longest line that is held back for its end, in characters. */
const LONGEST_LINE = 64 * 1024;
// Everything that moves the cursor, hides text or begins a line for some reader. Tab and newline stay; CR became a newline before.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about.
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029]/;
const COLOUR_OR_CONTROL = new RegExp(
  [
    '(\\u001b\\[[0-9;]{0,20}m)', // a colour: kept
    '\\u001b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\\u0007\\u001b]*(?:\\u0007|\\u001b\\\\)?|.?)', // any other escape sequence
    CONTROL.source,
  ].join('|'),
  'g',
);

/**
 * The job's log. What this process says itself goes through `command` and `line`; what a host says goes through `remote`
 * and can never be obeyed: split at every kind of line end, each line with the host's name before it, `##[` taken apart,
 * and all of it between a fresh stop-commands token and its end.
 */
export class Log {
  readonly #out: Writable;
  #host: string | undefined;
  #prefix = '';
  /** A newline and the prefix, as bytes, and room for a piece of output with them in it. */
  #newline = Buffer.from('\n');
  #room = Buffer.allocUnsafe(0);
  #token: string | undefined;
  #rest = '';

  constructor(out: Writable = process.stdout) {
    this.#out = out;
  }

  /** Which host speaks from now on. */
  host(name: string): void {
    if (name === this.#host) return;
    this.#host = name;
    this.#prefix = `${escapeData(name).replaceAll('##[', '')} | `;
    this.#newline = Buffer.from(`\n${this.#prefix}`);
  }

  /** A line of our own. It may repeat names and messages of others, so none of its lines begins as a command does. */
  async line(text: string): Promise<void> {
    await this.#resume();
    await this.#write(`${neutral(text).replace(/^\s*::/gm, '|::')}\n`);
  }

  /** A workflow command of our own: `::group::title`. Its values are escaped here. */
  async command(name: string, message = '', properties: Record<string, string | number> = {}): Promise<void> {
    await this.#resume();
    const given = Object.entries(properties).map(([key, value]) => `${key}=${escapeProperty(String(value))}`);
    await this.#write(`::${name}${given.length > 0 ? ` ${given.join(',')}` : ''}::${escapeData(neutral(message))}\n`);
  }

  /** A piece of what the host said. Lines may go on in the next piece. */
  async remote(text: string): Promise<void> {
    if (this.#token === undefined) {
      this.#token = randomBytes(16).toString('hex');
      await this.#write(`::stop-commands::${this.#token}\n`);
    }
    let all = this.#rest + text;
    this.#rest = '';
    // A CR at the end may be the first half of CR LF.
    const half = all.endsWith('\r');
    if (half) all = all.slice(0, -1);
    if (all.includes('\r')) all = all.replace(/\r\n?/g, '\n');
    const end = all.lastIndexOf('\n');
    this.#rest = all.slice(end + 1) + (half ? '\r' : '');
    if (end >= 0) await this.#write(this.#lines(all.slice(0, end)));
    if (this.#rest.length > LONGEST_LINE) await this.#flush();
  }

  /** A line about the host: its prefix and neutral text keep it from being obeyed, so it needs no token. */
  async remoteLine(text: string): Promise<void> {
    await this.#resume();
    await this.#write(this.#lines(text));
  }

  /** Everything is out, and commands are obeyed again. */
  async end(): Promise<void> {
    await this.#resume();
  }

  async #resume(): Promise<void> {
    await this.#flush();
    if (this.#token === undefined) return;
    const token = this.#token;
    this.#token = undefined;
    await this.#write(`::${token}::\n`);
  }

  async #flush(): Promise<void> {
    const rest = this.#rest.replace(/\r$/, '');
    this.#rest = '';
    if (rest !== '') await this.#write(this.#lines(rest));
  }

  /** The lines with their prefix, as bytes: this is where millions of lines pass. Good until the next call. */
  #lines(text: string): Buffer {
    const plain = Buffer.from(text);
    const bytes = isPlain(plain) ? plain : Buffer.from(neutral(text));
    const newline = this.#newline;
    const most = (bytes.length + 2) * newline.length;
    if (this.#room.length < most) this.#room = Buffer.allocUnsafe(most);
    const room = this.#room;
    let end = newline.copy(room, 0, 1);
    for (let at = 0; at < bytes.length; at++) {
      const byte = bytes[at] as number;
      if (byte !== NEWLINE) room[end++] = byte;
      else for (let n = 0; n < newline.length; n++) room[end++] = newline[n] as number;
    }
    room[end++] = NEWLINE;
    return room.subarray(0, end);
  }

  /** Returns when the bytes are out, so that their room can be used again. */
  #write(text: string | Buffer): Promise<void> {
    return new Promise((done, fail) => {
      this.#out.write(text, error => (error ? fail(error) : done()));
    });
  }
}

const NEWLINE = 0x0a;

/** Whether no reader obeys any of these letters, and none begins a command: printable ASCII but `[`, tab and newline. */
function isPlain(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] as number;
    if ((byte < 0x20 && byte !== NEWLINE && byte !== 0x09) || byte > 0x7e || byte === 0x5b) return false;
  }
  return true;
}

/** Text that moves no cursor and holds no `##[`, which the runner obeys anywhere in a line. Newlines stay. */
function neutral(text: string): string {
  const plain = CONTROL.test(text)
    ? text.replace(/\r\n?/g, '\n').replace(COLOUR_OR_CONTROL, (_, colour?: string) => colour ?? '')
    : text;
  return plain.includes('##[') ? plain.replaceAll('##[', '##\\[') : plain;
}

function escapeData(text: string): string {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
}

function escapeProperty(text: string): string {
  return escapeData(text).replaceAll(':', '%3A').replaceAll(',', '%2C');
}
