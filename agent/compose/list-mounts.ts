import type { ComposeRules, MountSource } from '../plan/compose-config.ts';
import { rootOf } from './allow-list/host-path.ts';
import { type ComposeNode, isNode } from './allow-list/key-rule.ts';
import { isBindVolume } from './allow-list/root.ts';

/** A mount with the place in the config that names it. */
type PlacedMount = MountSource & { path: string[] };

/** Lists the paths of the host that a config mounts: binds, volumes that are binds, and files of configs and secrets. */
export function listMounts(config: unknown, rules: ComposeRules): MountSource[] {
  return placeMounts(config, rules).map(({ path: _, ...mount }) => mount);
}

/** Returns the same mounts with the first place of each. */
export function placeMounts(config: unknown, rules: ComposeRules): PlacedMount[] {
  const node = isNode(config) ? config : {};
  const found = new Map<string, PlacedMount>();
  const add = (mount: Omit<PlacedMount, 'root'>) => {
    const key = `${mount.kind} ${mount.source}`;
    const known = found.get(key);
    if (!known) {
      found.set(key, { ...mount, root: rootOf(mount.source, mount.writable, rules) });
      return;
    }
    known.services = [...new Set([...known.services, ...mount.services])];
    known.writable ||= mount.writable;
    known.create ||= mount.create;
    known.root = rootOf(known.source, known.writable, rules);
  };
  for (const [service, { volumes }] of nodes(node.services))
    for (const [index, mount] of list(volumes).entries()) {
      const writable = mount.read_only !== true;
      const path = ['services', service, 'volumes', String(index)];
      if (mount.type === 'bind' && typeof mount.source === 'string') {
        // Compose prints only a true one; the stored config has a false one in its place, so that only the agent creates folders.
        const create = isNode(mount.bind) && mount.bind.create_host_path !== undefined;
        add({ kind: 'bind', services: [service], source: mount.source, writable, create, path });
      }
      const options = mount.type === 'volume' ? optionsOf(node, mount.source) : undefined;
      if (isBindVolume(options))
        add({ kind: 'bind', services: [service], source: options.device, writable, create: false, path });
    }
  for (const room of ['configs', 'secrets'] as const)
    for (const [name, { file }] of nodes(node[room]))
      if (typeof file === 'string')
        add({
          kind: room === 'configs' ? 'config' : 'secret',
          services: nodes(node.services)
            .filter(([, service]) => list(service[room]).some(({ source }) => source === name))
            .map(([service]) => service),
          source: file,
          writable: false,
          create: false,
          path: [room, name, 'file'],
        });
  return [...found.values()];
}

function optionsOf(config: ComposeNode, volume: unknown): unknown {
  const declared = nodes(config.volumes).find(([name]) => name === volume);
  return declared?.[1].driver_opts;
}

function nodes(value: unknown): [string, ComposeNode][] {
  return isNode(value) ? Object.entries(value).filter((entry): entry is [string, ComposeNode] => isNode(entry[1])) : [];
}

function list(value: unknown): ComposeNode[] {
  return Array.isArray(value) ? value.filter(isNode) : [];
}
