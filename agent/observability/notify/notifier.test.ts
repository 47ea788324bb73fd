import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Receiver } from '../../../test/doubles/receiver.ts';
import { Channel } from '../../config/notify.ts';
import { Database } from '../../store/database.ts';
import { createNoticeQueue } from '../../store/notice-queue.ts';
import { Notice } from './notice.ts';
import { Notifier, type NotifyConfig } from './notifier.ts';

let dir: string;
const receiver = new Receiver();
beforeAll(() => receiver.start());
afterAll(() => receiver.stop());
let now: number;
let database: Database;
let config: NotifyConfig;
let notifier: Notifier;
let counts: Record<string, number>;
let said: string[];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-notify-'));
  now = Date.parse('2026-11-21T12:00:00Z');
  database = new Database(join(dir, 'chatops.db'));
  config = { channels: [channel('discord')], rules: [{ channels: ['discord'] }], fold: '1h' };
  counts = {};
  said = [];
  receiver.got.length = 0;
  Object.assign(receiver, { status: 204, headers: {}, hangs: false });
  begin();
});
afterEach(async () => {
  await notifier.stop();
  database.close();
  rmSync(dir, { recursive: true });
});

/** As a new agent has it: only what is in the database is known. */
function begin(): void {
  notifier = new Notifier({
    config: () => config,
    queue: createNoticeQueue(database),
    count: (name, outcome) => {
      counts[`${name} ${outcome}`] = (counts[`${name} ${outcome}`] ?? 0) + 1;
    },
    say: line => said.push(line),
    now: () => now,
  });
}
const secret = (name: string, text: string) => {
  const file = join(dir, name);
  writeFileSync(file, `${text}\n`, { mode: 0o600 });
  return file;
};

function channel(type: string): Channel {
  const { url } = receiver;
  const more: Record<string, object> = {
    discord: { url_file: secret('discord', `${url}/api/webhooks/1/s3cret`) },
    slack: { url_file: secret('slack', `${url}/services/s3cret`) },
    ntfy: { url: `${url}/topic`, token_file: secret('ntfy', 'tk_s3cret') },
    telegram: { api_url: url, token_file: secret('telegram', '1:s3cret'), chat: '-100' },
    matrix: { server: url, room: '!room:example.org', token_file: secret('matrix', 'syt_s3cret') },
    webhook: { url: `${url}/hook`, secret_file: secret('webhook', 's3cret') },
    uptime_kuma: { url_file: secret('kuma', `${url}/api/push/s3cret?status=up&msg=OK&ping=`) },
    healthchecks: { url_file: secret('hc', `${url}/ping/s3cret`) },
  };
  return Channel.parse({ name: type, type, ...more[type] });
}
const notice = (changes: Partial<Notice> = {}) =>
  Notice.parse({
    ...{
      event: 'failed',
      severity: 'error',
      agent: 'whitebox',
      at: '2026-11-21T12:00:00.000Z',
      code: 'pull-failed',
      stack: 'media',
      run: 'r-1',
    },
    ...{
      title: 'rollout on media failed',
      text: 'no @everyone *bold* <b>',
      url: 'https://github.com/org/homelab/actions/runs/1',
    },
    ...changes,
  });
/** Looks once, and waits for what that sends. */
async function look(): Promise<void> {
  notifier.look();
  await notifier.stop();
}
const body = () => JSON.parse(receiver.got.at(-1)?.body ?? '{}');

describe('a channel', () => {
  const told = async (type: string, changes: Partial<Notice> = {}) => {
    config = { ...config, channels: [channel(type)], rules: [{ channels: [type] }] };
    notifier.notify(notice(changes));
    await look();
    expect(said).toEqual([]);
    return receiver.got.at(-1);
  };

  it('of Discord gets an embed in a colour, and nobody is called by name', async () => {
    expect(await told('discord')).toMatchObject({ method: 'POST', path: '/api/webhooks/1/s3cret' });
    expect(body()).toMatchObject({
      allowed_mentions: { parse: [] },
      embeds: [
        {
          title: 'whitebox: rollout on media failed',
          color: 0xe74c3c,
          description: 'no \\@everyone \\*bold\\* \\<b\\>',
        },
      ],
    });
    await told('discord', { event: 'succeeded', severity: 'info' });
    expect(body().embeds[0].color).toBe(0x2ecc71);
  });

  it('of Slack gets blocks', async () => {
    expect((await told('slack'))?.path).toBe('/services/s3cret');
    expect(body().blocks.map(({ type }: { type: string }) => type)).toEqual(['header', 'section']);
    expect(body().blocks[1].text.text).toContain('&lt;b&gt;');
  });

  it('of ntfy gets a title, a priority and the token', async () => {
    expect(await told('ntfy')).toMatchObject({ path: '/', headers: { authorization: 'Bearer tk_s3cret' } });
    expect(body()).toMatchObject({
      topic: 'topic',
      priority: 5,
      click: 'https://github.com/org/homelab/actions/runs/1',
    });
  });

  it('of Telegram, Matrix, a webhook, Uptime Kuma and Healthchecks gets what each takes', async () => {
    expect((await told('telegram'))?.path).toBe('/bot1:s3cret/sendMessage');
    expect(body()).toMatchObject({ chat_id: '-100', text: expect.stringContaining('rollout on media failed') });
    const matrix = await told('matrix');
    expect([matrix?.method, matrix?.path]).toEqual([
      'PUT',
      expect.stringMatching(/^\/_matrix\/client\/v3\/rooms\/!room%3Aexample\.org\/send\/m\.room\.message\//),
    ]);
    const hook = await told('webhook');
    const signature = createHmac('sha256', 's3cret')
      .update(hook?.body ?? '')
      .digest('hex');
    expect([hook?.headers['x-chatops-signature-256'], body()]).toEqual([
      `sha256=${signature}`,
      { schema_version: 1, ...notice() },
    ]);
    expect((await told('uptime_kuma'))?.path).toMatch(/^\/api\/push\/s3cret\?status=down&msg=whitebox/);
    expect((await told('uptime_kuma', { event: 'succeeded', severity: 'info' }))?.path).toContain('status=up');
    expect((await told('healthchecks'))?.path).toBe('/ping/s3cret/fail');
    expect((await told('healthchecks', { event: 'succeeded', severity: 'info' }))?.path).toBe('/ping/s3cret');
  });
});

describe('a channel of mail', () => {
  /** A server that takes what it is sent, as RFC 5321 has it. */
  async function smtp(refuses = false): Promise<{ port: number; mails: string[]; end: () => void }> {
    const mails: string[] = [];
    const server = createServer(socket => {
      let isData = false;
      let text = '';
      socket.on('error', () => undefined);
      socket.write('220 double\r\n');
      socket.on('data', chunk => {
        text += String(chunk);
        for (let end = text.indexOf('\r\n'); end >= 0; end = text.indexOf('\r\n')) {
          const line = text.slice(0, end);
          text = text.slice(end + 2);
          if (isData) {
            mails[mails.length - 1] += `${line}\n`;
            if (line !== '.') continue;
            isData = false;
            socket.write('250 taken\r\n');
          } else if (line === 'DATA') {
            isData = true;
            mails.push('');
            socket.write('354 go on\r\n');
          } else if (line.startsWith('RCPT') && refuses) socket.write('550 nobody\r\n');
          else socket.write(line === 'QUIT' ? '221 bye\r\n' : '250 ok\r\n');
        }
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return { port: (server.address() as AddressInfo).port, mails, end: () => server.close() };
  }
  const mailing = (port: number) => {
    const smtp = { host: '127.0.0.1', port, tls: 'none' };
    const email = Channel.parse({
      name: 'email',
      type: 'email',
      smtp,
      from: 'agent@example.org',
      to: ['me@example.org'],
    });
    config = { ...config, channels: [email], rules: [{ channels: ['email'] }] };
  };

  it('gets one with a subject that holds no second header', async () => {
    const { port, mails, end } = await smtp();
    mailing(port);
    notifier.notify(notice({ title: 'rollout on media\r\nBcc: evil@example.org\r\n failed' }));
    await look();
    end();
    expect([said, counts]).toEqual([[], { 'email sent': 1 }]);
    expect(mails[0]).toMatch(/^Subject: whitebox: rollout on media Bcc: evil@example\.org failed$/m);
    expect(mails[0]).not.toMatch(/^Bcc:/m);
    expect(mails[0]).toContain('code: pull-failed');
  });

  it('that takes none is given up; that is not there is tried again', async () => {
    const { port, end } = await smtp(true);
    mailing(port);
    notifier.notify(notice());
    await look();
    end();
    expect([counts, said]).toEqual([{ 'email failed': 1 }, ['notice to email given up: it answered 550']]);
    notifier.notify(notice({ code: 'other' }));
    await look();
    expect(said.at(-1)).toContain('again in 5 s');
  });
});

describe('a notice', () => {
  it('goes where a rule says', async () => {
    config.rules = [{ channels: ['discord'], on: ['failed'], stacks: ['media*'], min_severity: 'error' }];
    for (const changes of [
      { event: 'succeeded', severity: 'info' },
      { stack: 'other' },
      { severity: 'warning' },
    ] as Partial<Notice>[])
      notifier.notify(notice(changes));
    await look();
    expect(receiver.got).toHaveLength(0);
    notifier.notify(notice());
    await look();
    expect(receiver.got).toHaveLength(1);
  });

  it('that repeats itself is folded and counted; what is well is told each time', async () => {
    for (let n = 0; n < 5; n++) notifier.notify(notice());
    notifier.notify(notice({ code: 'up-failed' }));
    for (let n = 0; n < 2; n++) notifier.notify(notice({ event: 'succeeded', severity: 'info', code: undefined }));
    for (let n = 0; n < 9; n++) await look();
    expect([receiver.got.length, counts['discord folded'], counts['discord sent']]).toEqual([4, 4, 4]);
    now += 3_600_001;
    notifier.notify(notice());
    await look();
    expect(body().embeds[0].title).toBe('whitebox: rollout on media failed (5 times)');
  });

  it('waits on the disk for one that does not answer, and for the next agent', async () => {
    receiver.status = 503;
    notifier.notify(notice());
    await look();
    expect(said[0]).toBe('notice to discord: it answered 503; again in 5 s');
    begin();
    now += 4_000;
    await look();
    expect(receiver.got).toHaveLength(1);
    receiver.status = 204;
    now += 2_000;
    await look();
    expect([receiver.got.length, counts['discord sent']]).toEqual([2, 1]);
    now += 3_600_000;
    await look();
    expect(receiver.got).toHaveLength(2);
  });

  it('keeps to what 429 asks for', async () => {
    Object.assign(receiver, { status: 429, headers: { 'Retry-After': '120' } });
    notifier.notify(notice());
    await look();
    expect(said[0]).toContain('again in 120 s');
    now += 119_000;
    await look();
    expect(receiver.got).toHaveLength(1);
  });

  it('that is refused is given up at once, and no address is told', async () => {
    receiver.status = 404;
    notifier.notify(notice());
    await look();
    expect([counts['discord failed'], said]).toEqual([1, ['notice to discord given up: it answered 404']]);
    receiver.stop();
    notifier.notify(notice({ code: 'other' }));
    await look();
    expect(said.join('\n')).not.toContain('s3cret');
    expect(said.at(-1)).toContain('ECONNREFUSED');
    await receiver.start();
  });

  it('leaves a channel alone after five failures, and tries it again; the others go on', async () => {
    receiver.status = 500;
    for (let n = 0; n < 7; n++) notifier.notify(notice({ code: `code-${n}` }));
    for (let n = 0; n < 7; n++) await look();
    expect(receiver.got).toHaveLength(5);
    expect(notifier.circuits()).toEqual([{ name: 'discord', state: 1 }]);
    const [own] = config.channels;
    config = {
      ...config,
      channels: [own as Channel, channel('webhook')],
      rules: [{ channels: ['discord', 'webhook'] }],
    };
    receiver.status = 204;
    notifier.notify(notice({ code: 'new' }));
    await look();
    expect([receiver.got.length, receiver.got.at(-1)?.path]).toEqual([6, '/hook']);
  });

  it('waits for the end of the quiet hours, unless it is about an error', async () => {
    config = { ...config, quiet_hours: '22:00-07:00 Europe/Berlin' };
    now = Date.parse('2026-11-21T22:30:30Z');
    notifier.notify(notice());
    notifier.notify(notice({ event: 'succeeded', severity: 'info' }));
    await look();
    await look();
    expect(receiver.got).toHaveLength(1);
    now = Date.parse('2026-11-22T05:59:59Z');
    await look();
    expect(receiver.got).toHaveLength(1);
    now = Date.parse('2026-11-22T06:00:00Z');
    await look();
    expect(receiver.got).toHaveLength(2);
  });

  it('is dropped and counted where too many wait', () => {
    for (let n = 0; n < 505; n++) notifier.notify(notice({ code: `code-${n}` }));
    expect(counts).toEqual({ 'discord dropped': 5 });
  });
});
