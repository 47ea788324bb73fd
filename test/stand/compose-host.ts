import { composeSite, createRender } from '../../agent/executors/exam.ts';
import type { Intent, PlanContext, ShippedFileRef } from '../../agent/executors/executor.ts';
import type { ComposeConfig, HostReader } from '../../agent/plan/plan.ts';

const site: PlanContext['site'] = {
  stacksRoot: '/opt/stacks',
  memory: '/var/lib/chatops/stacks',
  docker: 'docker',
  verify: ['stack', '127.0.0.0/8'],
  settle: 2_000,
  switchFoldersOf: () => [],
  compose: composeSite,
  proxmox: '',
  backups: { sources: [], destinations: [], remotes: [], databases: [], records: '/var/lib/chatops/backups' },
};
export const DIR = '/opt/stacks/stack-media';
export const CONFIGS = '/var/lib/chatops/runs/run-00001/compose-1';
export const RECORD = '/var/lib/chatops/stacks/stack-media/shipped.json';
/** A rollout of the stack. */
export const rollout = (changes: object = {}): Intent =>
  ({ action: 'rollout', stack: 'stack-media', ...changes }) as Intent;
export const context = (intent: Intent, files: ShippedFileRef[] = [], wantsDiff = false): PlanContext => ({
  document: { name: 'test', document: 1, documents: 1, intent },
  run: 'run-00001',
  at: '2026-11-21T06:00:00.000Z',
  site,
  files,
  configs: CONFIGS,
  wantsDiff,
});
export const file = (path: string, sha256 = 'a'): ShippedFileRef => ({
  path,
  mode: 0o644,
  sha256: sha256.repeat(64),
  at: `/run/shipped/${sha256}`,
});

/** Answers of a host. */
export interface Host {
  folders?: Record<string, string[]>;
  files?: Record<string, string>;
  version?: string;
  containers?: { service: string; reference: string; image: string; project?: string; running?: boolean }[];
  /** Ids of images on the host, and tags that keep some of them. */
  images?: string[];
  kept?: Record<string, string>;
  /** The rendered config. */
  config?: ComposeConfig;
}

/** Creates a host that answers from a table. */
export function hostWith({
  folders = { [DIR]: ['docker-compose.yml'] },
  files = {},
  version = '2.26.1',
  containers = [],
  images = [],
  kept = {},
  config = { name: 'stack-media', services: { plex: { image: 'plex:2' } } },
}: Host = {}): HostReader {
  return {
    render: createRender(config),
    list: async folder => folders[folder] ?? null,
    read: async path => files[path] ?? null,
    ask: async argv =>
      argv.includes('version')
        ? { code: 0, stdout: `${version}\n`, stderr: '' }
        : { code: 1, stdout: '', stderr: 'not scripted' },
    engine: async path => {
      const labelsOf = (one: (typeof containers)[number]) => ({
        'com.docker.compose.service': one.service,
        'com.docker.compose.project': one.project ?? 'stack-media',
      });
      if (path.startsWith('/containers/json')) {
        return containers.map((one, index) => ({
          Id: `c${index}`,
          State: 'running',
          Names: [`/c${index}`],
          Labels: labelsOf(one),
        }));
      }
      if (path.startsWith('/images/json')) return Object.entries(kept).map(([tag, Id]) => ({ Id, RepoTags: [tag] }));
      const [, image] = /^\/images\/(.*)\/json$/.exec(path) ?? [];
      if (image !== undefined) return images.includes(decodeURIComponent(image)) ? {} : null;
      const [, number] = /^\/containers\/c(\d+)\/json$/.exec(path) ?? [];
      const one = containers[Number(number)];
      return one
        ? {
            Id: `c${number}`,
            Image: one.image,
            Name: `/c${number}`,
            Config: { Image: one.reference, Labels: labelsOf(one) },
            HostConfig: {},
            State: { Status: 'running', Running: one.running ?? true },
          }
        : null;
    },
  };
}
