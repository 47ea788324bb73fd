import { Writable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { commandsObeyed } from '../test/doubles/runner-log.ts';
import { Log } from './log.ts';

class Sink extends Writable {
  text = '';
  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

async function printed(pieces: string[]): Promise<string> {
  const sink = new Sink();
  const log = new Log(sink);
  log.host('whitebox');
  for (const piece of pieces) await log.remote(piece);
  await log.end();
  return sink.text;
}

/** Returns the lines that the user sees: without those that switch commands off and on. */
function seen(text: string): string[] {
  return text
    .split('\n')
    .filter(line => !line.startsWith('::'))
    .slice(0, -1);
}

describe('the log of a host', () => {
  it('has the name of the host before each line, whatever its line end', async () => {
    expect(seen(await printed(['one\ntwo\r\nthree\rfour']))).toEqual([
      'whitebox | one',
      'whitebox | two',
      'whitebox | three',
      'whitebox | four',
    ]);
  });

  it('joins lines that come in pieces, also at a CR LF that is split', async () => {
    expect(seen(await printed(['o', 'ne\r', '\ntw', 'o\n']))).toEqual(['whitebox | one', 'whitebox | two']);
  });

  it('contains no command that the runner obeys', async () => {
    const attacks = [
      '::set-output name=status::succeeded',
      '  ::error::x',
      '##[set-output name=a;]b',
      'text ##[add-mask]e',
      '#\u0000#[error]x',
      '##\u001b[2K[warning]x',
      '\r::stop-commands::x',
      '::add-mask::a\r::endgroup::',
      '\u2028::error::x',
      '\u0085::error::x',
      '\u000b::error::x',
    ];
    expect(commandsObeyed(await printed(attacks.map(attack => `${attack}\n`)))).toEqual([]);
    expect(attacks.filter(attack => commandsObeyed(attack).length > 0).length).toBeGreaterThan(4);
  });

  it('contains no command that the runner obeys, whatever its pieces are made of', async () => {
    const part = fc.constantFrom(
      '::',
      '##[',
      '#',
      '[',
      ']',
      'error',
      'set-output name=a',
      'stop-commands',
      '\r',
      '\n',
      '\r\n',
      ' ',
      '\t',
      '\u001b',
      '\u001b[31m',
      '\u001b[2J',
      '\u0000',
      '\u2028',
      'a',
      '%0A',
      'é',
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.array(part, { maxLength: 12 }).map(parts => parts.join('')),
          { maxLength: 6 },
        ),
        async pieces => {
          expect(commandsObeyed(await printed(pieces))).toEqual([]);
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('keeps colors and drops sequences that move the cursor', async () => {
    expect(seen(await printed(['\u001b[32mgreen\u001b[0m \u001b[2K\u001b[1Aup \u001b]0;title\u0007done\n']))).toEqual([
      'whitebox | \u001b[32mgreen\u001b[0m up done',
    ]);
  });

  it('drops what hides text or changes its direction', async () => {
    expect(seen(await printed(['a\u001b[8mb\u202ec\u2066d\u200be#\u200b#[error]f\n']))).toEqual([
      'whitebox | abcde##\\[error]f',
    ]);
  });

  it('lets the runner obey the commands of the action again, with a fresh token each time', async () => {
    const sink = new Sink();
    const log = new Log(sink);
    log.host('whitebox');
    await log.remote('::error::theirs\n');
    await log.command('error', 'ours: 100%\nreally ##[x]', { title: 'a,b:c' });
    await log.remote('::error::theirs again\n');
    await log.end();
    expect(commandsObeyed(sink.text)).toEqual(['error:ours: 100%25%0Areally ##\\[x]']);
    const tokens = [...sink.text.matchAll(/::stop-commands::(\w+)/g)].map(([, token]) => token);
    expect(new Set(tokens).size).toBe(2);
    expect(tokens[0]).toMatch(/^[0-9a-f]{32}$/);
  });

  it('has lines of the action that repeat a host’s text and contain no command', async () => {
    const sink = new Sink();
    const log = new Log(sink);
    for (const name of [
      'a\n::set-output name=status::x',
      '::error::x',
      ' \t::error::x',
      'a\r  ::error::x',
      'a##[error]x',
    ])
      await log.line(name);
    expect(commandsObeyed(sink.text)).toEqual([]);
  });

  it('shows a line that does not end before all of it is there', async () => {
    const sink = new Sink();
    const log = new Log(sink);
    log.host('whitebox');
    for (let piece = 0; piece < 8; piece++) await log.remote('x'.repeat(32 * 1024));
    expect(sink.text.length).toBeGreaterThan(190_000);
  });

  it('waits for a slow reader', async () => {
    let release = () => {};
    const slow = new Writable({
      highWaterMark: 1,
      write: (_chunk, _encoding, done) => {
        release = done;
      },
    });
    const log = new Log(slow);
    log.host('whitebox');
    let wrote = false;
    const writing = log.remote('a\n').then(() => {
      wrote = true;
    });
    await new Promise(next => setImmediate(next));
    expect(wrote).toBe(false);
    release();
    await new Promise(next => setImmediate(next));
    release();
    await writing;
    expect(wrote).toBe(true);
  });
});
