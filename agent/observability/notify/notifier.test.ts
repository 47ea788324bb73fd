import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Receiver } from '../../../test/doubles/receiver.ts';
import type { NotifyConfig } from '../../config/notify.ts';
import { Channel } from '../../config/notify.ts';
import { Database } from '../../store/database.ts';
import { createNoticeQueue } from '../../store/notice-queue.ts';
import { Notice } from './notice.ts';
import { Notifier } from './notifier.ts';

let dir: string;
const receiver = new Receiver();
beforeAll(() => receiver.start());
afterAll(() => receiver.stop());
let now: number;
let database: Database;
let config: NotifyConfig;
let notifier: Notifier;
let counts: Record<string, number>;
let logged: string[];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-notify-'));
  now = Date.parse('2026-11-21T12:00:00Z');
  database = new Database(join(dir, 'chatops.db'));
  config = { channels: [channel('discord')], rules: [{ channels: ['discord'] }], fold: '1h' };
  counts = {};
  logged = [];
  receiver.got.length = 0;
  Object.assign(receiver, { status: 204, headers: {}, hangs: false });
  restart();
});
afterEach(async () => {
  await notifier.stop();
  database.close();
  rmSync(dir, { recursive: true });
});

/** Creates the notifier of a new agent, which knows only the database. */
function restart(): void {
  notifier = new Notifier({
    config: () => config,
    queue: createNoticeQueue(database),
    count: (name, outcome) => {
      counts[`${name} ${outcome}`] = (counts[`${name} ${outcome}`] ?? 0) + 1;
    },
    say: line => logged.push(line),
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
/** Sends what is due, and waits for it. */
async function sendDue(): Promise<void> {
  notifier.sendDue();
  await notifier.stop();
}
const body = () => JSON.parse(receiver.got.at(-1)?.body ?? '{}');

describe('the channel', () => {
  const send = async (type: string, changes: Partial<Notice> = {}) => {
    config = { ...config, channels: [channel(type)], rules: [{ channels: [type] }] };
    notifier.notify(notice(changes));
    await sendDue();
    expect(logged).toEqual([]);
    return receiver.got.at(-1);
  };

  it('Discord gets an embed in the color of the severity, without mentions', async () => {
    expect(await send('discord')).toMatchObject({ method: 'POST', path: '/api/webhooks/1/s3cret' });
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
    await send('discord', { event: 'succeeded', severity: 'info' });
    expect(body().embeds[0].color).toBe(0x2ecc71);
  });

  it('Slack gets blocks with escaped markup', async () => {
    expect((await send('slack'))?.path).toBe('/services/s3cret');
    expect(body().blocks.map(({ type }: { type: string }) => type)).toEqual(['header', 'section']);
    expect(body().blocks[1].text.text).toContain('&lt;b&gt;');
  });

  it('ntfy gets a title, a priority and the token', async () => {
    expect(await send('ntfy')).toMatchObject({ path: '/', headers: { authorization: 'Bearer tk_s3cret' } });
    expect(body()).toMatchObject({
      topic: 'topic',
      priority: 5,
      click: 'https://github.com/org/homelab/actions/runs/1',
    });
  });

  it('Telegram, Matrix, webhook, Uptime Kuma or Healthchecks gets a request of its own form', async () => {
    expect((await send('telegram'))?.path).toBe('/bot1:s3cret/sendMessage');
    expect(body()).toMatchObject({ chat_id: '-100', text: expect.stringContaining('rollout on media failed') });
    const matrix = await send('matrix');
    expect(matrix).toMatchObject({
      method: 'PUT',
      path: expect.stringMatching(/^\/_matrix\/client\/v3\/rooms\/!room%3Aexample\.org\/send\/m\.room\.message\//),
    });
    const hook = await send('webhook');
    const signature = createHmac('sha256', 's3cret')
      .update(hook?.body ?? '')
      .digest('hex');
    expect({ signature: hook?.headers['x-chatops-signature-256'], body: body() }).toEqual({
      signature: `sha256=${signature}`,
      body: { schema_version: 1, ...notice() },
    });
    expect((await send('uptime_kuma'))?.path).toMatch(/^\/api\/push\/s3cret\?status=down&msg=whitebox/);
    expect((await send('uptime_kuma', { event: 'succeeded', severity: 'info' }))?.path).toContain('status=up');
    expect((await send('healthchecks'))?.path).toBe('/ping/s3cret/fail');
    expect((await send('healthchecks', { event: 'succeeded', severity: 'info' }))?.path).toBe('/ping/s3cret');
  });
});

describe('a mail channel', () => {
  /** A mail server (RFC 5321) that accepts every mail, or no recipient. */
  async function startMailServer(rejects = false): Promise<{ port: number; mails: string[]; stop: () => void }> {
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
            socket.write('250 accepted\r\n');
          } else if (line === 'DATA') {
            isData = true;
            mails.push('');
            socket.write('354 continue\r\n');
          } else if (line.startsWith('RCPT') && rejects) socket.write('550 unknown\r\n');
          else socket.write(line === 'QUIT' ? '221 bye\r\n' : '250 ok\r\n');
        }
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return { port: (server.address() as AddressInfo).port, mails, stop: () => server.close() };
  }
  const useMailServer = (port: number) => {
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

  it('gets a subject that cannot add a header', async () => {
    const { port, mails, stop } = await startMailServer();
    useMailServer(port);
    notifier.notify(notice({ title: 'rollout on media\r\nBcc: evil@example.org\r\n failed' }));
    await sendDue();
    stop();
    expect({ logged, counts }).toEqual({ logged: [], counts: { 'email sent': 1 } });
    expect(mails[0]).toMatch(/^Subject: whitebox: rollout on media Bcc: evil@example\.org failed$/m);
    expect(mails[0]).not.toMatch(/^Bcc:/m);
    expect(mails[0]).toContain('code: pull-failed');
  });

  it('that rejects a mail is not retried; an unreachable one is', async () => {
    const { port, stop } = await startMailServer(true);
    useMailServer(port);
    notifier.notify(notice());
    await sendDue();
    stop();
    expect({ counts, logged }).toEqual({
      counts: { 'email failed': 1 },
      logged: ['notice to email failed, no more retries: it answered 550'],
    });
    notifier.notify(notice({ code: 'other' }));
    await sendDue();
    expect(logged.at(-1)).toContain('next try in 5 s');
  });
});

describe('a notice', () => {
  it('goes to the channels of the rules that match it', async () => {
    config.rules = [{ channels: ['discord'], on: ['failed'], stacks: ['media*'], min_severity: 'error' }];
    for (const changes of [
      { event: 'succeeded', severity: 'info' },
      { stack: 'other' },
      { severity: 'warning' },
    ] as Partial<Notice>[])
      notifier.notify(notice(changes));
    await sendDue();
    expect(receiver.got).toHaveLength(0);
    notifier.notify(notice());
    await sendDue();
    expect(receiver.got).toHaveLength(1);
  });

  it('is folded and counted if it repeats, but each success is sent', async () => {
    for (let n = 0; n < 5; n++) notifier.notify(notice());
    notifier.notify(notice({ code: 'up-failed' }));
    for (let n = 0; n < 2; n++) notifier.notify(notice({ event: 'succeeded', severity: 'info', code: undefined }));
    for (let n = 0; n < 9; n++) await sendDue();
    expect({ requests: receiver.got.length, counts }).toEqual({
      requests: 4,
      counts: { 'discord folded': 4, 'discord sent': 4 },
    });
    now += 3_600_001;
    notifier.notify(notice());
    await sendDue();
    expect(body().embeds[0].title).toBe('whitebox: rollout on media failed (5 times)');
  });

  it('waits on the disk while its channel fails, also for the next agent', async () => {
    receiver.status = 503;
    notifier.notify(notice());
    await sendDue();
    expect(logged[0]).toBe('notice to discord: it answered 503; next try in 5 s');
    restart();
    now += 4_000;
    await sendDue();
    expect(receiver.got).toHaveLength(1);
    receiver.status = 204;
    now += 2_000;
    await sendDue();
    expect({ requests: receiver.got.length, sent: counts['discord sent'] }).toEqual({ requests: 2, sent: 1 });
    now += 3_600_000;
    await sendDue();
    expect(receiver.got).toHaveLength(2);
  });

  it('is retried after the time in Retry-After', async () => {
    Object.assign(receiver, { status: 429, headers: { 'Retry-After': '120' } });
    notifier.notify(notice());
    await sendDue();
    expect(logged[0]).toContain('next try in 120 s');
    now += 119_000;
    await sendDue();
    expect(receiver.got).toHaveLength(1);
  });

  it('is not retried if its channel rejects it, and the log holds no address', async () => {
    receiver.status = 404;
    notifier.notify(notice());
    await sendDue();
    expect({ failed: counts['discord failed'], logged }).toEqual({
      failed: 1,
      logged: ['notice to discord failed, no more retries: it answered 404'],
    });
    receiver.stop();
    notifier.notify(notice({ code: 'other' }));
    await sendDue();
    expect(logged.join('\n')).not.toContain('s3cret');
    expect(logged.at(-1)).toContain('ECONNREFUSED');
    await receiver.start();
  });

  it('opens the circuit of its channel after five failures, and other channels still get it', async () => {
    receiver.status = 500;
    for (let n = 0; n < 7; n++) notifier.notify(notice({ code: `code-${n}` }));
    for (let n = 0; n < 7; n++) await sendDue();
    expect(receiver.got).toHaveLength(5);
    expect(notifier.circuits()).toEqual([{ name: 'discord', state: 1 }]);
    const [discord] = config.channels;
    config = {
      ...config,
      channels: [discord as Channel, channel('webhook')],
      rules: [{ channels: ['discord', 'webhook'] }],
    };
    receiver.status = 204;
    notifier.notify(notice({ code: 'new' }));
    await sendDue();
    expect({ requests: receiver.got.length, last: receiver.got.at(-1)?.path }).toEqual({ requests: 6, last: '/hook' });
  });

  it('waits for the end of the quiet hours unless it reports an error', async () => {
    config = { ...config, quiet_hours: '22:00-07:00 Europe/Berlin' };
    now = Date.parse('2026-11-21T22:30:30Z');
    notifier.notify(notice());
    notifier.notify(notice({ event: 'succeeded', severity: 'info' }));
    await sendDue();
    await sendDue();
    expect(receiver.got).toHaveLength(1);
    now = Date.parse('2026-11-22T05:59:59Z');
    await sendDue();
    expect(receiver.got).toHaveLength(1);
    now = Date.parse('2026-11-22T06:00:00Z');
    await sendDue();
    expect(receiver.got).toHaveLength(2);
  });

  it('is dropped and counted if too many wait', () => {
    for (let n = 0; n < 505; n++) notifier.notify(notice({ code: `code-${n}` }));
    expect(counts).toEqual({ 'discord dropped': 5 });
  });
});
