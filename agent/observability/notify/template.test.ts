import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Receiver } from '../../../test/doubles/receiver.ts';
import { Channel } from '../../config/notify.ts';
import { Database } from '../../store/database.ts';
import { createNoticeQueue } from '../../store/notice-queue.ts';
import { Notice } from './notice.ts';
import { Notifier, type NotifyConfig } from './notifier.ts';

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
  dir = mkdtempSync(join(tmpdir(), 'chatops-words-'));
  database = new Database(join(dir, 'chatops.db'));
  now = Date.parse('2026-11-21T12:00:00Z');
  counts = {};
  receiver.got.length = 0;
  Object.assign(receiver, { status: 204, headers: {}, hangs: false });
  begin();
});
afterEach(async () => {
  await notifier.stop();
  database.close();
  rmSync(dir, { recursive: true });
});

function begin(): void {
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

/** One channel, ntfy, with more. */
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
const look = async () => {
  notifier.look();
  await notifier.stop();
};
const bodies = () => receiver.got.map(({ body }) => JSON.parse(body) as { title: string; message: string });

describe('a template', () => {
  it('has other words for title and text, with filters', async () => {
    configure({
      template: {
        title: '[{{ severity | upper }}] {{stack|default:"host"}}',
        text: '{{ at | date: "%H:%M" }} {{ text }}',
      },
    });
    notifier.notify(notice());
    await look();
    expect(bodies()).toEqual([
      expect.objectContaining({ title: '[ERROR] media', message: expect.stringMatching(/^12:00 no such image\n/) }),
    ]);
    begin();
    notifier.notify(notice({ stack: undefined, code: 'other' }));
    await look();
    expect(bodies()[1]?.title).toBe('[ERROR] host');
  });

  it('is filled in once: what a container printed is no template', async () => {
    configure({ template: { text: '{{ text }}' } });
    notifier.notify(notice({ text: 'it said {{ run }} {{ code }}' }));
    await look();
    expect(bodies()[0]?.message).toContain('it said {{ run }} {{ code }}');
  });

  it.each([
    ['{{ sack }}', 'did you mean {{ stack }}?'],
    ['{{ process.env }}', 'Known: event'],
    ['{{ stack | shout }}', 'filters: default'],
  ])('that says what is not known is refused: %s', (title, why) => {
    expect(() => configure({ template: { title } })).toThrow(why);
  });
});

describe('a digest', () => {
  it('tells everything together at its time, also after a restart', async () => {
    configure({ digest: { cron: '0 8 * * *', timezone: 'Europe/Berlin' } });
    for (const minute of [1, 2, 3]) {
      now = Date.parse(`2026-11-21T12:0${minute}:00Z`);
      notifier.notify(notice());
    }
    notifier.notify(
      notice({ event: 'succeeded', severity: 'info', title: 'rollout on media succeeded', code: undefined }),
    );
    await look();
    expect(receiver.got).toEqual([]);
    begin();
    now = Date.parse('2026-11-22T07:00:00Z');
    await look();
    expect(bodies()).toHaveLength(1);
    expect(bodies()[0]).toMatchObject({
      title: 'whitebox: 4 notices: 3 failed, 1 succeeded',
      message: expect.stringContaining('11-21 12:01 rollout on media failed (pull-failed)\n11-21 12:02 '),
      priority: 5,
    });
    expect(counts).toEqual({ 'phone sent': 4 });
  });

  it('that can’t be told is told later, whole', async () => {
    configure({ digest: { cron: '0 8 * * *' } });
    notifier.notify(notice());
    notifier.notify(notice({ code: 'up-failed' }));
    receiver.status = 503;
    now = Date.parse('2026-11-22T08:00:00Z');
    await look();
    begin();
    receiver.status = 204;
    now += 10_000;
    await look();
    expect(bodies().map(({ title }) => title)).toEqual(Array(2).fill('whitebox: 2 notices: 2 failed'));
    expect(counts).toEqual({ 'phone sent': 2 });
  });

  it.each(['61 8 * * *', '0 0 30 2 *'])('at a time that never comes is refused: %s', cron => {
    expect(() => configure({ digest: { cron } })).toThrow('Expected a time that comes');
  });
});
