import { join } from 'node:path';
import { parseDuration } from '../../intents/duration.ts';
import type { HostSite } from '../executors/executor.ts';
import { secretPath } from '../system/secret-file.ts';
import { composeRulesOf } from './compose-limits.ts';
import { parseSize } from './load.ts';
import { proxmoxFolder } from './proxmox-programs.ts';
import type { Config } from './schema.ts';
import { matchesPattern } from './trust.ts';

/** Maps agent.yaml to the description of this host that executors read. */
export function siteOf(config: Config): HostSite {
  return {
    stacksRoot: config.stacks.root,
    memory: join(config.state_dir, 'stacks'),
    docker: config.docker.command,
    verify: config.verify.allow,
    settle: parseDuration(config.verify.settle),
    proxmox: proxmoxFolder(config),
    switchFoldersOf: stack =>
      config.stacks.switch_folders.filter(one => matchesPattern(one.stack, stack)).map(({ folder }) => folder),
    compose: { rulesOf: stack => composeRulesOf(config, stack) },
    backups: {
      sources: [...config.backups.sources, config.stacks.root],
      destinations: config.backups.destinations.map(({ min_free, ...rest }) => ({
        ...rest,
        minFree: parseSize(min_free),
      })),
      remotes: config.backups.remotes.map(withSecretPath),
      databases: config.backups.databases.map(withSecretPath),
      records: join(config.state_dir, 'backups'),
      ...(config.backups.restic ? { resticPassword: secretPath(config.backups.restic.password_file) } : {}),
    },
  };
}

function withSecretPath<T extends { password_file?: string | undefined }>(server: T): T {
  return server.password_file === undefined ? server : { ...server, password_file: secretPath(server.password_file) };
}
