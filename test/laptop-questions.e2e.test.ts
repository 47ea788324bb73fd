import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AuditLog } from '../agent/store/audit-log.ts';
import { Database } from '../agent/store/database.ts';
import { QUESTION_TOPICS } from '../protocol/question.ts';
import { Receiver } from './doubles/receiver.ts';
import { Host } from './stand/host.ts';
import { Laptop } from './stand/laptop.ts';

const ROWS = 1_200;
const receiver = new Receiver();
let dir: string;
let host: Host;
/** Anna may ask everything, Bert about schedules only, Cleo nothing. */
let anna: Laptop;
let bert: Laptop;
let cleo: Laptop;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-questions-'));
  await receiver.start();
  host = new Host({ dir: join(dir, 'host'), repository: 'org/homelab' });
  [anna, bert, cleo] = ['anna', 'bert', 'cleo'].map(name => new Laptop(name, dir, () => host)) as [
    Laptop,
    Laptop,
    Laptop,
  ];
  // More rows than one answer holds.
  const database = new Database(join(host.state, 'chatops.db'));
  const chain = new AuditLog(database);
  database.transaction(() => {
    for (let n = 1; n <= ROWS; n++) chain.append('2026-11-20T00:00:00.000Z', { event: 'earlier', n });
  });
  database.close();
  writeFileSync(join(dir, 'discord'), `${receiver.url}/hook\n`, { mode: 0o600 });
  writeFileSync(join(dir, 'dead'), 'http://127.0.0.1:9/hook\n', { mode: 0o600 });
  const allow = [
    { name: 'labelled', actions: ['rollout'], stacks: ['web-*'], require_labels: ['ready'] },
    { name: 'own', actions: ['rollout'], stacks: ['lap-*'], without_approval: ['laptop'] },
  ];
  await host.start({
    intents_dir: dir,
    trust: [
      { name: 'nightly', local: 'schedule', allow: [{ actions: ['rollout'], stacks: ['*'] }] },
      { ...anna.entry, allow, may_ask: QUESTION_TOPICS },
      { ...bert.entry, allow, may_ask: ['schedules'] },
      { ...cleo.entry, allow },
    ],
    schedules: [{ name: 'night', cron: '0 3 * * *', timezone: 'Europe/Berlin', intent: 'it.yaml' }],
    notify: {
      channels: [
        { name: 'team', type: 'discord', url_file: join(dir, 'discord') },
        { name: 'dead', type: 'discord', url_file: join(dir, 'dead') },
      ],
      rules: [{ channels: ['team'] }],
    },
  });
  writeFileSync(join(dir, 'it.yaml'), 'action: rollout\nstack: web-shop\n');
});
afterAll(async () => {
  await host.stop();
  receiver.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** Counts the test notices that the receiver got. */
const testNotices = () => receiver.got.filter(({ body }) => body.includes('a test notice')).length;

describe('questions from a laptop whose trust entry may ask', () => {
  it('lists schedules for a laptop as on the host', async () => {
    const there = await host.chatops(['schedule', '--json']);
    for (const laptop of [anna, bert]) {
      const { code, stdout, stderr } = await laptop.chatops(['schedule', '--json']);
      expect({ exit: code, stdout: JSON.parse(stdout) }, stderr).toEqual({ exit: 0, stdout: JSON.parse(there.stdout) });
    }
    expect((await anna.chatops(['schedule'])).stdout).toMatch(/^night +next 20.*it\.yaml/);
  });

  it('exports the whole audit log to a laptop, row for row, and verifies its chain', async () => {
    const there = (await host.chatops(['audit', 'export'])).stdout.trim().split('\n');
    const { code, stdout, stderr } = await anna.chatops(['audit', 'export']);
    const rows = stdout.trim().split('\n');
    expect({ exit: code, stderr }).toEqual({ exit: 0, stderr: '' });
    expect(rows.slice(0, there.length)).toEqual(there);
    expect(rows.length).toBeGreaterThan(ROWS);
    const head = JSON.parse(there.at(-1) ?? '') as { n: number; digest: string };
    const intact = await anna.chatops(['audit', 'verify', '--expect', `${head.n}:${head.digest}`]);
    expect({ exit: intact.code, stdout: intact.stdout }).toEqual({
      exit: 0,
      stdout: expect.stringMatching(/^✓ \d+ rows, head /),
    });
    const wrong = await anna.chatops(['audit', 'verify', '--expect', `${head.n}:${'0'.repeat(64)}`]);
    expect({ exit: wrong.code, stdout: wrong.stdout }).toEqual({
      exit: 1,
      stdout: expect.stringContaining('audit-broken'),
    });
    // Each reading takes one connection and one audit row, however long the log is.
    const asked = (await host.audit()).filter(({ event, about }) => event === 'asked' && about === 'audit');
    expect(asked).toHaveLength(3);
  });

  it('runs the doctor on the host for a laptop, and reports that the agent answers', async () => {
    const findings = async (call: Promise<{ stdout: string }>) =>
      JSON.parse((await call).stdout) as { check: string; state: string; says: string }[];
    const [there, here] = [
      await findings(host.chatops(['doctor', '--json'])),
      await findings(anna.chatops(['doctor', '--json'])),
    ];
    const others = (all: typeof there) =>
      all.filter(({ check }) => check !== 'the agent' && check !== 'space for the state');
    expect(others(here)).toEqual(others(there));
    expect(here.at(-1)).toMatchObject({
      check: 'the agent',
      state: 'good',
      says: expect.stringContaining('answers on'),
    });
  });

  it('explains and tests the policy for a laptop as on the host', async () => {
    const explain = ['policy', 'explain', 'it.yaml', '--entry', 'laptop-cleo', '--json'];
    const labelled = [...explain, '--label', 'ready', '--at', '2026-11-23T10:00:00Z'];
    for (const [args, exit] of [
      [explain, 1],
      [labelled, 0],
    ] as const) {
      const here = await anna.chatops(args);
      expect({ exit: here.code, stdout: here.stdout }, here.stderr).toEqual({
        exit,
        stdout: (await host.chatops(args, { cwd: dir })).stdout,
      });
    }
    const cases = (name: string, expect: string) =>
      writeFileSync(
        join(dir, name),
        JSON.stringify({
          cases: [
            { name, entry: 'laptop-anna', intent: { action: 'rollout', stack: 'web-a' }, labels: ['ready'], expect },
          ],
        }),
      );
    cases('right.yaml', 'allowed');
    cases('wrong.yaml', 'refused');
    const right = await anna.chatops(['policy', 'test', 'right.yaml']);
    expect({ exit: right.code, stdout: right.stdout }).toEqual({
      exit: 0,
      stdout: '✓ right.yaml: allowed (by labelled)\n',
    });
    expect((await anna.chatops(['policy', 'test', 'wrong.yaml'])).code).toBe(1);
    const unknown = await anna.chatops(['policy', 'explain', 'it.yaml', '--entry', 'missing']);
    expect({ exit: unknown.code, stderr: unknown.stderr }).toEqual({
      exit: 1,
      stderr: expect.stringMatching(/^chatops: entry-unknown: .*laptop-bert/),
    });
  });

  it('sends test notices for a laptop and reports a dead channel', async () => {
    const one = await anna.chatops(['notify', 'test', 'team']);
    expect({ exit: one.code, stdout: one.stdout, testNotices: testNotices() }, one.stderr).toEqual({
      exit: 0,
      stdout: '✓ team\n',
      testNotices: 1,
    });
    const all = await anna.chatops(['notify', 'test']);
    expect({ exit: all.code, stdout: all.stdout }).toEqual({
      exit: 1,
      stdout: expect.stringMatching(/^✓ team\n✗ dead: /),
    });
  });

  it('records each question of a laptop in the audit log', async () => {
    await bert.chatops(['schedule']);
    expect(await host.audit()).toContainEqual(
      expect.objectContaining({
        ...{ event: 'asked', about: 'schedules', trust: 'laptop-bert', actor: 'bert' },
        ...{ key: bert.keys.id, address: '127.0.0.1' },
      }),
    );
  });
});

describe('questions from a laptop whose trust entry may not ask', () => {
  const questions: Record<(typeof QUESTION_TOPICS)[number], string[]> = {
    audit: ['audit', 'export'],
    doctor: ['doctor'],
    notify: ['notify', 'test'],
    policy: ['policy', 'explain', 'it.yaml', '--entry', 'laptop-anna'],
    schedules: ['schedule'],
  };
  it.each(QUESTION_TOPICS)('refuses a question about %s if the entry may not ask it', async about => {
    const before = testNotices();
    const { code, stdout, stderr } = await cleo.chatops([...questions[about], '--json']);
    expect({ exit: code, stdout, stderr: JSON.parse(stderr) }).toEqual({
      exit: 1,
      stdout: '',
      stderr: {
        error: { code: 'question-not-allowed', message: expect.stringContaining(about), remedy: expect.any(String) },
      },
    });
    expect(testNotices()).toBe(before);
  });

  it('refuses a question beyond the entry, under another name, or from a stranger', async () => {
    expect((await bert.chatops(['audit', 'export'])).stderr).toContain('question-not-allowed');
    expect((await anna.chatops(['schedule'], { CHATOPS_AS: 'bert' })).stderr).toContain('repository-not-allowed');
    const stranger = new Laptop('stranger', dir, () => host);
    expect((await stranger.chatops(['schedule'])).stderr).toContain('signature-invalid');
    expect(await host.metrics()).toMatch(/chatops_auth_failures_total\{reason="not_allowed"[^}]*\} [1-9]/);
    expect(await host.audit()).toContainEqual(
      expect.objectContaining({ event: 'refused', code: 'question-not-allowed', trust: 'laptop-bert' }),
    );
  });
});
