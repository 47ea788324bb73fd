import type { ComposeRules } from '../../plan/compose-config.ts';
import { isUnder } from '../../plan/paths.ts';
import { type Place, printable, refuse } from './key-rule.ts';

/** Folders in which the engine is controlled, or in which all of its containers and images are stored. */
const ENGINE_FOLDERS = ['/run/docker', '/run/containerd', '/run/podman', '/var/lib/docker', '/var/lib/containerd'];
const ENGINE_SOCKETS = ['docker.sock', 'containerd.sock', 'podman.sock'];
/** Volumes are data of stacks, and not the engine's. */
const ENGINE_VOLUMES = '/var/lib/docker/volumes';
/** Writing there changes the host's kernel. */
const KERNEL_FOLDERS = ['/proc', '/sys'];

/** Returns the folder by which a stack may mount this path: its own, or one of its list. */
export function rootOf(source: string, writable: boolean, rules: ComposeRules): string | undefined {
  const roots = [rules.dir, ...rules.binds, ...(writable ? [] : rules.readOnlyBinds)];
  return roots.find(root => isUnder(source, root));
}

/** Checks a path of the host that the config mounts. Links are checked right before the start: {@link PrepareMountsStep}. */
export function checkHostPath(source: unknown, writable: boolean, at: Place): void {
  if (isPlainPath(source)) checkPlainPath(source, writable, at);
  else refuse(at, ` is not an absolute path without "..", "$" and control characters: ${printable(source)}`);
}

function checkPlainPath(source: string, writable: boolean, at: Place): void {
  const { rules } = at;
  const path = canonical(source);
  const shown = printable(source);
  if (rules.agent.some(own => isUnder(path, canonical(own)))) {
    refuse(at, ` binds ${shown}, which belongs to the agent`);
    return;
  }
  const holdsAgent = rules.agent.some(own => isUnder(canonical(own), path));
  if ((holdsAgent || controlsEngine(path, rules)) && !rules.grants.includes('docker-socket'))
    refuse(
      at,
      holdsAgent
        ? ` binds ${shown}, which holds the agent’s folder`
        : ` binds ${shown}, by which the engine is controlled`,
      [{ grant: 'docker-socket' }],
    );
  const isEngineSocket = isSocket(path, rules);
  if (isEngineSocket && rules.grants.includes('docker-socket')) return;
  if (
    writable &&
    KERNEL_FOLDERS.some(folder => isUnder(path, folder) || isUnder(folder, path)) &&
    !rules.grants.includes('privileged')
  )
    refuse(at, ` binds ${shown} writable, by which the kernel is controlled`, [{ grant: 'privileged' }]);
  if (!isEngineSocket && rootOf(source, writable, rules) === undefined && !rules.grants.includes('binds'))
    refuse(at, ` binds ${shown}, which is outside of the stack’s folder`, [
      { list: 'binds', value: writable ? source : `${source}:ro` },
      { grant: 'binds' },
    ]);
}

function isPlainPath(path: unknown): path is string {
  return (
    typeof path === 'string' &&
    path.startsWith('/') &&
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are refused.
    !/[\u0000-\u001f\u007f$]/.test(path) &&
    !path.split('/').some(segment => segment === '..' || segment === '.')
  );
}

function isSocket(path: string, { socket }: ComposeRules): boolean {
  return path === canonical(socket) || ENGINE_SOCKETS.some(name => path.endsWith(`/${name}`));
}

function controlsEngine(path: string, rules: ComposeRules): boolean {
  if (isSocket(path, rules)) return true;
  if (isUnder(path, ENGINE_VOLUMES)) return false;
  return (
    isUnder(canonical(rules.socket), path) ||
    ENGINE_FOLDERS.some(folder => isUnder(path, folder) || isUnder(folder, path))
  );
}

/** Returns the path without repeated slashes, and with the usual link of /var/run resolved. */
function canonical(path: string): string {
  const clean = `/${path.split('/').filter(Boolean).join('/')}`;
  return isUnder(clean, '/var/run') ? clean.slice('/var'.length) : clean;
}
