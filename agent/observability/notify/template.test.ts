import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
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

const receiver = new Receiver();
let dir: string;
let database: Database;
let now: number;
let config: NotifyConfig;
let notifier: Notifier;
let counts: Record<string, number>;
beforeAll(() => receiver.start());
afterAll(() => receiver.stop());
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-template-'));
  database = new Database(join(dir, 'chatops.db'));
  now = Date.parse('2026-11-21T12:00:00Z');
  counts = {};
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
    say: () => undefined,
    now: () => now,
  });
}

/** Configures one channel, ntfy, with more keys. */
function configure(more: object): void {
  const file = join(dir, 'token');
  writeFileSync(file, 'tk\n', { mode: 0o600 });
  const channel = Channel.parse({
    name: 'phone',
    type: 'ntfy',
    url: `${receiver.url}/topic`,
    token_file: file,
    ...more,
  });
  config = { channels: [channel], rules: [{ channels: ['phone'] }], fold: '1h' };
}
const notice = (changes: object = {}) =>
  Notice.parse({
    ...{ event: 'failed', severity: 'error', agent: 'whitebox', at: new Date(now).toISOString() },
    ...{ title: 'rollout on media failed', text: 'no such image', code: 'pull-failed', stack: 'media', ...changes },
  });
const sendDue = async () => {
  notifier.sendDue();
  await notifier.stop();
};
const bodies = () => receiver.got.map(({ body }) => JSON.parse(body) as { title: string; message: string });

describe('a template', () => {
  it('replaces title and text, with filters', async () => {
    configure({
      template: {
        title: '[{{ severity | upper }}] {{stack|default:"host"}}',
        text: '{{ at | date: "%H:%M" }} {{ text }}',
      },
    });
    notifier.notify(notice());
    await sendDue();
    expect(bodies()).toEqual([
      expect.objectContaining({ title: '[ERROR] media', message: expect.stringMatching(/^12:00 no such image\n/) }),
    ]);
    restart();
    notifier.notify(notice({ stack: undefined, code: 'other' }));
    await sendDue();
    expect(bodies()[1]?.title).toBe('[ERROR] host');
  });

  it('is filled once: inserted values are not read as a template', async () => {
    configure({ template: { text: '{{ text }}' } });
    notifier.notify(notice({ text: 'it said {{ run }} {{ code }}' }));
    await sendDue();
    expect(bodies()[0]?.message).toContain('it said {{ run }} {{ code }}');
  });

  it.each([
    { title: '{{ sack }}', problem: 'did you mean {{ stack }}?' },
    { title: '{{ process.env }}', problem: 'Known: event' },
    { title: '{{ stack | shout }}', problem: 'filters: default' },
  ])('is refused with an unknown field or filter: $title', ({ title, problem }) => {
    expect(() => configure({ template: { title } })).toThrow(problem);
  });
});

describe('a digest', () => {
  it('sends all notices together at its time, also after a restart', async () => {
    configure({ digest: { cron: '0 8 * * *', timezone: 'Europe/Berlin' } });
    for (const minute of [1, 2, 3]) {
      now = Date.parse(`2026-11-21T12:0${minute}:00Z`);
      notifier.notify(notice());
    }
    notifier.notify(
      notice({ event: 'succeeded', severity: 'info', title: 'rollout on media succeeded', code: undefined }),
    );
    await sendDue();
    expect(receiver.got).toEqual([]);
    restart();
    now = Date.parse('2026-11-22T07:00:00Z');
    await sendDue();
    expect(bodies()).toHaveLength(1);
    expect(bodies()[0]).toMatchObject({
      title: 'whitebox: 4 notices: 3 failed, 1 succeeded',
      message: expect.stringContaining('11-21 12:01 rollout on media failed (pull-failed)\n11-21 12:02 '),
      priority: 5,
    });
    expect(counts).toEqual({ 'phone sent': 4 });
  });

  it('that could not be sent is sent later with all its notices', async () => {
    configure({ digest: { cron: '0 8 * * *' } });
    notifier.notify(notice());
    notifier.notify(notice({ code: 'up-failed' }));
    receiver.status = 503;
    now = Date.parse('2026-11-22T08:00:00Z');
    await sendDue();
    restart();
    receiver.status = 204;
    now += 10_000;
    await sendDue();
    expect(bodies().map(({ title }) => title)).toEqual(Array(2).fill('whitebox: 2 notices: 2 failed'));
    expect(counts).toEqual({ 'phone sent': 2 });
  });

  it.each(['61 8 * * *', '0 0 30 2 *'])('with a time that never comes is refused: %s', cron => {
    expect(() => configure({ digest: { cron } })).toThrow('Expected a time that comes');
  });
});
