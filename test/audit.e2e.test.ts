import { execFileSync } from 'node:child_process';
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LABEL, World } from './stand/world.ts';

let world: World;
let receipt: string;
const file = () => join(world.host.state, 'chatops.db');
beforeAll(async () => {
  world = await new World().start();
  world.stack('audited', {
    'compose.yaml':
      'services:\n  web:\n    image: chatops-test/web:1\n    pull_policy: never\n    init: true\n    stop_grace_period: 0s\n',
  });
  const merge = world.merge({
    'chatops/intents/up.yaml': `label_required: ${LABEL}\naction: rollout\nstack: audited\n`,
  });
  const job = await world.deploy(merge, 'up');
  expect(job.outputs.status, job.log).toBe('succeeded');
  receipt = join(world.dir, 'result.json');
  writeFileSync(receipt, job.outputs.result ?? '');
  await world.deploy(world.merge({ 'chatops/intents/no.yaml': 'action: rollout\nstack: nowhere\n' }), 'no');
});
afterAll(() => world[Symbol.asyncDispose]());

const verify = (...args: string[]) => world.host.chatops(['audit', 'verify', ...args]);
/** Verifies the audit log after a change to its table while no agent runs, and restores the table. */
async function tampered(sql: string, ...args: string[]) {
  await world.host.stop();
  execFileSync('sqlite3', [file(), 'PRAGMA wal_checkpoint(TRUNCATE);']);
  copyFileSync(file(), `${file()}.good`);
  const db = new DatabaseSync(file());
  db.exec(sql);
  db.close();
  const done = await verify(...args);
  copyFileSync(`${file()}.good`, file());
  return done;
}

describe('the audit log', () => {
  it('is a chain whose head is in each receipt and in the metrics, and verifies with and without an agent', async () => {
    const done = await verify('--receipt', receipt);
    expect({ exit: done.code, stdout: done.stdout }, done.stdout + done.stderr).toEqual({
      exit: 0,
      stdout: expect.stringMatching(/^✓ \d+ rows, head [0-9a-f]{64}\n$/),
    });
    const { audit } = JSON.parse(execFileSync('cat', [receipt], { encoding: 'utf8' })).receipts[0];
    const rows = (await world.host.chatops(['audit', 'export'])).stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line));
    expect(rows[audit.rows - 1]).toMatchObject({ n: audit.rows, digest: audit.digest });
    expect(rows.map(({ event }) => event)).toEqual(
      expect.arrayContaining(['started', 'run-begun', 'run-ended', 'refused']),
    );
    expect(await world.host.metrics()).toContain(`chatops_audit_rows{digest="${rows.at(-1).digest}"} ${rows.length}`);
    await world.host.stop();
    const after = await verify('--receipt', receipt, '--json');
    expect(JSON.parse(after.stdout)).toMatchObject({ rows: rows.length + 1 });
  });

  it.each([
    [
      'a changed row',
      "UPDATE audit SET body = replace(body, 'succeeded', 'failed') WHERE n = (SELECT min(n) FROM audit WHERE body LIKE '%succeeded%')",
      'was changed or inserted',
    ],
    ['a changed time', "UPDATE audit SET at = '2020-01-01T00:00:00.000Z' WHERE n = 2", 'row 2 was changed or inserted'],
    ['a missing row', 'DELETE FROM audit WHERE n = 3', 'row 3 is missing'],
    [
      'an inserted row',
      "UPDATE audit SET n = n + 1000 WHERE n > 2; INSERT INTO audit VALUES (3, 't', '{}', '00'); UPDATE audit SET n = n - 999 WHERE n > 1000",
      'row 3 was changed or inserted',
    ],
  ])('reports %s', async (_, sql, why) => {
    const done = await tampered(sql);
    expect({ exit: done.code, stdout: done.stdout }, done.stderr).toEqual({
      exit: 1,
      stdout: expect.stringContaining(why),
    });
  });

  it('reports rows that a receipt proves and the log lacks: a cut end, or a rebuilt chain', async () => {
    const cut = 'DELETE FROM audit WHERE n > 3';
    expect((await tampered(cut)).code).toBe(0);
    const shortened = await tampered(cut, '--receipt', receipt);
    expect({ exit: shortened.code, stdout: shortened.stdout }).toEqual({
      exit: 1,
      stdout: expect.stringContaining('the chain ends at row 3'),
    });
    const digest = 'f'.repeat(64);
    const rebuilt = await verify('--expect', `2:${digest}`);
    expect({ exit: rebuilt.code, stdout: rebuilt.stdout }).toEqual({
      exit: 1,
      stdout: expect.stringContaining('the chain was rebuilt'),
    });
    expect((await verify('--expect', 'nonsense')).code).toBe(1);
    expect((await world.host.chatops(['audit'])).code).toBe(2);
  });
});
