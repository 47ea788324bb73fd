import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadedIntent } from '../intents/load.ts';
import { Repository } from '../test/stand/repository.ts';
import { collectFiles } from './find-intents.ts';
import { gitTree } from './git-tree.ts';

const POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n';
const dir = mkdtempSync(join(tmpdir(), 'chatops-tree-'));
let repository: Repository;
let sha: string;
beforeAll(() => {
  repository = new Repository(join(dir, 'origin'));
  sha = repository.commit('one', { 'stacks/web/compose.yaml': 'services: {}\n', 'stacks/media/film.mkv': POINTER });
});
afterAll(() => rmSync(dir, { recursive: true }));

const rollout = (name: string) =>
  [{ intent: { action: 'rollout', stack: name, source_dir: `stacks/${name}` } }] as LoadedIntent[];

describe('the files of a commit', () => {
  it('are shipped as they are in the commit, not as they are in the workspace', async () => {
    repository.commit('two', { 'stacks/web/compose.yaml': 'changed\n' });
    const files = await collectFiles(rollout('web'), await gitTree(repository.dir, sha), sha);
    expect(files.map(({ content }) => Buffer.from(content, 'base64').toString())).toEqual(['services: {}\n']);
  });

  it('are refused if one is a pointer of Git LFS: the host would get the pointer', async () => {
    const work = collectFiles(rollout('media'), await gitTree(repository.dir, sha), sha);
    await expect(work).rejects.toMatchObject({
      refusal: {
        code: 'file-not-allowed',
        message: 'The file "stacks/media/film.mkv" can\'t be shipped: it is a pointer of Git LFS, not the file itself.',
      },
    });
  });

  it('are refused if the clone is partial and its remote is gone', async () => {
    const clone = join(dir, 'clone');
    repository.git('config', 'uploadpack.allowFilter', 'true');
    execFileSync('git', ['clone', '--quiet', '--no-checkout', '--filter=blob:none', `file://${repository.dir}`, clone]);
    execFileSync('git', ['-C', clone, 'remote', 'set-url', 'origin', 'file:///nowhere']);
    const work = collectFiles(rollout('web'), await gitTree(clone, sha), sha);
    await expect(work).rejects.toMatchObject({ refusal: { code: 'checkout-unreadable' } });
  });
});
