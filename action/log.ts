import { randomBytes } from 'node:crypto';
import type { Writable } from 'node:stream';
import { toPlainText } from '../protocol/plain-text.ts';

/** The longest part of a line that is kept until the line ends, in characters. */
const LONGEST_LINE = 64 * 1024;

/**
 * The log of the job. The action's own text goes through `command` and `line`. Text of a host goes through `remote`, so that
 * the runner never obeys it: it is split at every kind of line end, each line starts with the host's name, `##[` is taken
 * apart, and all of it is between a fresh stop-commands token and its end.
 */
export class Log {
  readonly #out: Writable;
  #host: string | undefined;
  #prefix = '';
  /** The newline with the prefix as bytes, and a buffer for a piece of output with its prefixes. */
  #newline = Buffer.from('\n');
  #buffer = Buffer.allocUnsafe(0);
  #token: string | undefined;
  #rest = '';

  constructor(out: Writable = process.stdout) {
    this.#out = out;
  }

  /** Sets the host of the following text. */
  host(name: string): void {
    if (name === this.#host) return;
    this.#host = name;
    this.#prefix = `${escapeData(name).replaceAll('##[', '')} | `;
    this.#newline = Buffer.from(`\n${this.#prefix}`);
  }

  /** Writes a line of the action. It may repeat names and messages of others, so none of its lines starts like a command. */
  async line(text: string): Promise<void> {
    await this.#resume();
    await this.#write(`${neutral(text).replace(/^\s*::/gm, '|::')}\n`);
  }

  /** Writes a workflow command (`::group::title`), and escapes its values. */
  async command(name: string, message = '', properties: Record<string, string | number> = {}): Promise<void> {
    await this.#resume();
    const given = Object.entries(properties).map(([key, value]) => `${key}=${escapeProperty(String(value))}`);
    await this.#write(`::${name}${given.length > 0 ? ` ${given.join(',')}` : ''}::${escapeData(neutral(message))}\n`);
  }

  /** Writes a piece of a host's output. Its last line may continue in the next piece. */
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

  /** Writes a line about the host. The prefix and the neutralized text keep the runner from obeying it, so it needs no token. */
  async remoteLine(text: string): Promise<void> {
    await this.#resume();
    await this.#write(this.#lines(text));
  }

  /** Writes what is left. After it the runner obeys commands again. */
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

  /** Returns the lines with their prefix as bytes, valid until the next call. Millions of lines pass here, so it reuses one buffer. */
  #lines(text: string): Buffer {
    const plain = Buffer.from(text);
    const bytes = isPlain(plain) ? plain : Buffer.from(neutral(text));
    const newline = this.#newline;
    const largest = (bytes.length + 2) * newline.length;
    if (this.#buffer.length < largest) this.#buffer = Buffer.allocUnsafe(largest);
    const buffer = this.#buffer;
    let end = newline.copy(buffer, 0, 1);
    for (let at = 0; at < bytes.length; at++) {
      const byte = bytes[at] as number;
      if (byte !== NEWLINE) buffer[end++] = byte;
      else for (let n = 0; n < newline.length; n++) buffer[end++] = newline[n] as number;
    }
    buffer[end++] = NEWLINE;
    return buffer.subarray(0, end);
  }

  /** Resolves when the bytes are written, so that the buffer can be used again. */
  #write(text: string | Buffer): Promise<void> {
    return new Promise((done, fail) => {
      this.#out.write(text, error => (error ? fail(error) : done()));
    });
  }
}

const NEWLINE = 0x0a;

/** Returns true if the bytes are only printable ASCII without `[`, tab and newline: no reader obeys those. */
function isPlain(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] as number;
    if ((byte < 0x20 && byte !== NEWLINE && byte !== 0x09) || byte > 0x7e || byte === 0x5b) return false;
  }
  return true;
}

/** Returns plain text without `##[`, which the runner obeys anywhere in a line. Newlines stay. */
function neutral(text: string): string {
  const plain = toPlainText(text.includes('\r') ? text.replace(/\r\n?/g, '\n') : text);
  return plain.includes('##[') ? plain.replaceAll('##[', '##\\[') : plain;
}

function escapeData(text: string): string {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
}

function escapeProperty(text: string): string {
  return escapeData(text).replaceAll(':', '%3A').replaceAll(',', '%2C');
}
