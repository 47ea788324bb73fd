import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadedIntent } from '../intents/load.ts';
import { Repository } from '../test/stand/repository.ts';
import { collectFiles } from './find-intents.ts';
import { gitTree } from './git-tree.ts';

const STAND_INS = {
  'a pointer of Git LFS': 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n',
  'locked by git-crypt': '\0GITCRYPT\0\u0001\u0002',
  'values that SOPS encrypted': 'PASSWORD=ENC[AES256_GCM,data:abc=,iv:def=,tag:ghi=,type:str]\nsops_version=3.8.1\n',
};
const dir = mkdtempSync(join(tmpdir(), 'chatops-tree-'));
let repository: Repository;
let sha: string;
beforeAll(() => {
  repository = new Repository(join(dir, 'origin'));
  sha = repository.commit('one', {
    'stacks/web/compose.yaml': 'services: {}\n',
    ...Object.fromEntries(Object.values(STAND_INS).map((text, index) => [`stacks/kind-${index}/film.mkv`, text])),
  });
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

  it.each([...Object.keys(STAND_INS).entries()])(
    'are refused if one is not the file itself: %s %s',
    async (index, why) => {
      const work = collectFiles(rollout(`kind-${index}`), await gitTree(repository.dir, sha), sha);
      await expect(work).rejects.toMatchObject({
        refusal: {
          code: 'file-not-allowed',
          message: expect.stringMatching(
            new RegExp(`^The file "stacks/kind-${index}/film.mkv" can't be shipped: .*${why}`),
          ),
        },
      });
    },
  );

  it('are refused if the clone is partial and its remote is gone', async () => {
    const clone = join(dir, 'clone');
    repository.git('config', 'uploadpack.allowFilter', 'true');
    execFileSync('git', ['clone', '--quiet', '--no-checkout', '--filter=blob:none', `file://${repository.dir}`, clone]);
    execFileSync('git', ['-C', clone, 'remote', 'set-url', 'origin', 'file:///nowhere']);
    const work = collectFiles(rollout('web'), await gitTree(clone, sha), sha);
    await expect(work).rejects.toMatchObject({ refusal: { code: 'checkout-unreadable' } });
  });
});
