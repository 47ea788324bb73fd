import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { Database } from './database.ts';
import { type DeployedKey, DeploymentStore } from './deployments.ts';
import { MIGRATIONS } from './migrations.ts';

const dir = mkdtempSync(join(tmpdir(), 'chatops-deployments-'));
const key = (intent: string, changes: Partial<DeployedKey> = {}): DeployedKey => ({
  ...{ repository: 'org/homelab', stack: 'web', intent, sourceDir: '' },
  ...changes,
});

let database: Database;
let store: DeploymentStore;
let files = 0;
beforeEach(() => {
  database = new Database(join(dir, `${++files}.db`));
  store = new DeploymentStore(database);
});
afterAll(() => rmSync(dir, { recursive: true }));

const shaOf = (wanted: DeployedKey) => store.last(wanted)?.sha;
const count = () => database.get<{ count: number }>('SELECT count(*) AS count FROM deployments')?.count;

describe('the last deployment of a document', () => {
  it('is that of a run from its start, and that of an earlier run if it was not deployed', () => {
    store.begin('one', 'c1', 't', [key('up')]);
    store.end('one', () => true);
    store.begin('two', 'c2', 't', [key('up')]);
    expect(shaOf(key('up'))).toBe('c2');
    store.end('two', () => false);
    expect(shaOf(key('up'))).toBe('c1');
  });

  it('is kept alone, but not before a run that still executes ends', () => {
    store.begin('one', 'c1', 't', [key('up')]);
    store.begin('two', 'c2', 't', [key('up')]);
    store.end('two', () => true);
    store.end('one', () => true);
    expect({ sha: shaOf(key('up')), rows: count() }).toEqual({ sha: 'c2', rows: 2 });
    store.begin('three', 'c3', 't', [key('up')]);
    store.end('three', () => true);
    expect({ sha: shaOf(key('up')), rows: count() }).toEqual({ sha: 'c3', rows: 1 });
  });

  it('is that of the same folder, stack or repository if the document was not deployed yet', () => {
    store.begin('one', 'c1', 't', [key('a', { stack: 'one', sourceDir: 'stacks/one' })]);
    store.begin('two', 'c2', 't', [key('b', { stack: 'two' })]);
    const first = (wanted: DeployedKey) => ({ sha: store.last(wanted)?.sha, isFirst: store.last(wanted)?.isFirst });
    expect(first(key('new', { stack: 'x', sourceDir: 'stacks/one' }))).toEqual({ sha: 'c1', isFirst: true });
    expect(first(key('new', { stack: 'one', sourceDir: 'other' }))).toEqual({ sha: 'c1', isFirst: true });
    expect(first(key('new', { stack: 'x' }))).toEqual({ sha: 'c2', isFirst: true });
    expect(first(key('a', { stack: 'one', repository: 'ORG/Homelab' }))).toEqual({ sha: 'c1', isFirst: false });
    expect(store.last(key('a', { repository: 'org/other' }))).toBeUndefined();
  });

  it('is the baseline if nothing of the repository was deployed before', () => {
    store.begin('one', 'c1', 't', [key('up'), key('db')]);
    expect(store.baselinesOf('one')).toEqual([
      { stack: 'web', intent: 'up', sha: 'c1' },
      { stack: 'web', intent: 'db', sha: 'c1' },
    ]);
    store.end('one', ({ intent }) => intent === 'up');
    store.begin('two', 'c2', 't', [key('new')]);
    store.begin('other', 'c3', 't', [key('up', { repository: 'org/other' })]);
    expect({ two: store.baselinesOf('two'), other: store.baselinesOf('other') }).toEqual({
      two: [],
      other: [{ stack: 'web', intent: 'up', sha: 'c3' }],
    });
  });

  it('is taken over from the runs of an agent that did not store it', () => {
    const file = join(dir, 'old.db');
    const old = new DatabaseSync(file);
    const before = MIGRATIONS.length - 1;
    old.exec(`${MIGRATIONS.slice(0, before).join('\n')} PRAGMA user_version = ${before};`);
    const insert = old.prepare(
      `INSERT INTO runs (id, digest, type, trust, key_id, address, command, state, outcome, created_at, head)
       VALUES (?, '', ?, '', '', '', ?, 'ended', ?, ?, '')`,
    );
    const add = (id: string, sha: string, changes: object = {}, type = 'run', outcome = 'succeeded') =>
      insert.run(
        id,
        type,
        JSON.stringify({
          ...{ origin: { repository: 'Org/Homelab', sha }, dry_run: false },
          intents: [{ name: 'up', intent: { action: 'rollout', stack: 'web', source_dir: 'stacks/web' } }],
          ...changes,
        }),
        outcome,
        id,
      );
    add('1', 'c1'.repeat(20));
    add('2', 'c2'.repeat(20), {}, 'run', 'failed');
    add('3', 'c3'.repeat(20), {}, 'plan', 'planned');
    add('4', 'c4'.repeat(20), { dry_run: true });
    add('5', '0'.repeat(40));
    old.close();
    store = new DeploymentStore(new Database(file));
    expect(shaOf(key('up', { sourceDir: 'stacks/web' }))).toBe('c1'.repeat(20));
  });
});
