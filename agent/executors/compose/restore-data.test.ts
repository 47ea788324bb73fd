import { describe, expect, it } from 'vitest';
import type { Release } from '../../plan/plan.ts';
import { createContext, createHost } from '../exam.ts';
import type { Intent } from '../executor.ts';
import { planDataRestore } from './restore-data.ts';

const DIR = '/opt/stacks/s';
const ARCHIVE = '/mnt/nas/nightly/one';
const intent: Intent = { action: 'rollback', stack: 's', restore_data: true };
const release: Release = {
  ...{ runs: ['run-00001'], at: '', images: [], files: null, compose: [] },
  points: [{ kind: 'docker_volumes', name: 'nightly', archive: ARCHIVE, at: '2026-11-20T06:00:00.000Z', run: 'r' }],
};
const config = { docker: 'docker', dir: DIR, project: 's', profiles: [], file: '/run/compose-1.json', sha256: '' };
/** Plans the restore of one backup with that source. */
async function resultOf(source: string): Promise<string> {
  const context = createContext(intent, { site: { backups: { sources: ['/opt/stacks', '/srv'] } } });
  const manifest = {
    ...{ kind: 'docker_volumes', name: 'nightly', run: 'r', at: '2026-11-20T06:00:00.000Z', source },
    ...{ bytes: 1, files: 1, sha256: '' },
  };
  const mounts: Record<string, object[]> = {
    web: [
      { Source: '/srv/s', Destination: '/data', RW: true },
      { Source: '/srv/media', Destination: '/media', RW: false },
    ],
    'vault-db': [{ Source: '/srv/vault', Destination: '/data', RW: true }],
  };
  const host = createHost({
    read: async file => (file === `${ARCHIVE}.json` ? JSON.stringify(manifest) : null),
    engine: async path => {
      if (path.startsWith('/containers/json'))
        return decodeURIComponent(path).includes(`working_dir=${DIR}"`) ? [{ Id: 'web' }] : [];
      return { Mounts: mounts[/^\/containers\/(.*)\/json$/.exec(path)?.[1] ?? ''] };
    },
  });
  const limits = { pull: 1, up: 1, healthy: 1 };
  return planDataRestore(release, config, limits as never, context, host).then(
    () => 'planned',
    ({ code }) => code,
  );
}

describe('the data of a rollback', () => {
  it.each([
    ['the folder of the stack', `${DIR}/data`, 'planned'],
    ['a folder that a container of the stack writes', '/srv/s/deep', 'planned'],
    ['a path in a container of the stack', 'web:/data', 'planned'],
    ['the folder of another stack', '/opt/stacks/vault', 'restore-other-stack'],
    ['a path in a container of another stack', 'vault-db:/data', 'restore-other-stack'],
    ['a folder that a container of the stack only reads', '/srv/media', 'restore-other-stack'],
    ['a folder above the data of the stack', '/srv', 'restore-other-stack'],
    ['a folder outside of the sources', '/etc', 'path-outside'],
  ])('is restored only if it belongs to the stack: %s', async (_, source, result) => {
    expect(await resultOf(source)).toBe(result);
  });
});
