import {
  type ContainerDetails,
  type ContainerListing,
  composeContainersPath,
  composeLabel,
} from '../../plan/containers.ts';
import { Failure } from '../../plan/failure.ts';
import type { ComposeConfig, ComposeService, HostReader, ReadResult } from '../../plan/plan.ts';
import type { Change } from '../executor.ts';
import { type CheckedStack, composeCommand, type StackConfig } from './compose-command.ts';
import type { Shipment } from './ship-files.ts';
import { requireService } from './side-by-side.ts';
import type { ComposeTarget, StackIntent } from './target.ts';

/** The warnings of a summary; the log has all of them. */
const MAX_WARNINGS = 3;

const UNKNOWN: Change = { subject: 'every service', change: 'unknown', details: ['the host was not read'] };

/** Returns the changes of a rollout, by file and by service. Variables are named, but their values are never shown. */
export async function compareStack(
  intent: Extract<StackIntent, { action: 'rollout' }>,
  config: StackConfig,
  rendered: ComposeConfig | undefined,
  shipment: Shipment,
  host: HostReader,
): Promise<Change[]> {
  const files: Change[] = [
    ...shipment.writes.map(
      (file): Change => ({ subject: file.path, change: 'write', details: [`sha256 ${file.sha256.slice(0, 12)}`] }),
    ),
    ...shipment.removes.map((path): Change => ({ subject: path, change: 'remove', details: ['no longer shipped'] })),
  ];
  const [containers, recreated] = await Promise.all([readContainers(config.dir, host), findRecreated(config, host)]);
  if (!rendered || !containers) return [...files, UNKNOWN];
  if (intent.service !== undefined) requireService(rendered, intent.service);
  const changes: Change[] = [...files];
  for (const [name, service] of Object.entries(rendered.services)) {
    if (intent.service !== undefined && intent.service !== name) continue;
    const ownContainers = containers.filter(container => composeLabel(container.Config, 'service') === name);
    changes.push(await compareService(name, service, recreated, ownContainers, host));
  }
  const orphans = new Set(
    containers.map(container => composeLabel(container.Config, 'service')).filter(name => !(name in rendered.services)),
  );
  for (const name of orphans)
    changes.push({ subject: name, change: 'remove', details: ['no longer in the compose file'] });
  return changes;
}

/** Returns the changes of a scale. Throws Failure: `service-unknown`, `scale-impossible`. */
export async function compareScale(
  intent: Extract<StackIntent, { action: 'scale' }>,
  { dir }: ComposeTarget,
  rendered: ComposeConfig | undefined,
  host: HostReader,
): Promise<Change[]> {
  const containers = await readContainers(dir, host);
  if (!rendered || !containers) return [{ ...UNKNOWN, subject: intent.service }];
  const service = requireService(rendered, intent.service);
  const fixed = (service.ports ?? []).find(port => port.published !== undefined && /^\d+$/.test(port.published));
  if (intent.replicas > 1 && (service.container_name !== undefined || fixed)) {
    throw new Failure(
      'scale-impossible',
      `${intent.service} can't have ${intent.replicas} containers: ${
        service.container_name === undefined
          ? `its port ${fixed?.published} is fixed`
          : `its container_name ${service.container_name} is fixed`
      }.`,
      'Remove container_name and the fixed published port from the compose file, or scale to 1.',
    );
  }
  const running = containers.filter(
    one => composeLabel(one.Config, 'service') === intent.service && one.State.Running,
  ).length;
  const details = [`containers ${running} → ${intent.replicas}`];
  return [
    {
      subject: intent.service,
      change: running === intent.replicas ? 'none' : 'scale',
      details: running === intent.replicas ? [] : details,
    },
  ];
}

/** Returns one line for all changes, and the warnings about the stack. */
export function summarize(changes: Change[], { warnings = [] }: Partial<Pick<CheckedStack, 'warnings'>> = {}): string {
  const counted = countChanges(changes);
  if (warnings.length === 0) return counted;
  const rest = warnings.length - MAX_WARNINGS;
  return [
    counted.replace(/\.?$/, '.'),
    ...warnings.slice(0, MAX_WARNINGS),
    ...(rest > 0 ? [`The log has all ${warnings.length} warnings.`] : []),
  ].join(' ');
}

function countChanges(changes: Change[]): string {
  const counts = new Map<string, number>();
  for (const { change } of changes) if (change !== 'none') counts.set(change, (counts.get(change) ?? 0) + 1);
  if (counts.size === 0) return 'Nothing would change.';
  return [...counts]
    .map(([change, count]) => `${count} to ${change}`)
    .join(', ')
    .replace(/\d+ to unknown/, 'not all is known');
}

async function readContainers(dir: string, host: HostReader): Promise<ContainerDetails[] | undefined> {
  const listed = (await host.engine(composeContainersPath({ dir }))) as ReadResult<ContainerListing[]>;
  if (listed === undefined) return undefined;
  const containers = await Promise.all(
    (listed ?? []).map(({ Id }) => host.engine(`/containers/${Id}/json`) as Promise<ReadResult<ContainerDetails>>),
  );
  return containers.filter(container => container !== null && container !== undefined);
}

/** Returns the containers that compose would recreate. Only its own dry run tells: its hashes of configs differ by version. */
async function findRecreated(config: StackConfig, host: HostReader): Promise<Set<string>> {
  const argv = composeCommand(config, ['--dry-run', 'up', '--detach', '--no-build', '--remove-orphans']);
  const { stderr = '' } = (await host.ask(argv, { cwd: config.dir })) ?? {};
  return new Set([...stderr.matchAll(/Container (\S+) +Recreate\s*$/gm)].map(([, name = '']) => name));
}

async function compareService(
  name: string,
  service: ComposeService,
  recreated: Set<string>,
  containers: ContainerDetails[],
  host: HostReader,
): Promise<Change> {
  const wanted = service.scale ?? service.deploy?.replicas ?? 1;
  const [first] = containers;
  if (!first) {
    return wanted === 0
      ? { subject: name, change: 'none', details: [] }
      : {
          subject: name,
          change: 'create',
          details: [`image ${service.image ?? 'built here'}`, `containers 0 → ${wanted}`],
        };
  }
  const details = [
    ...(await compareImage(service, first, host)),
    ...comparePorts(service, first),
    ...compareVolumes(service, first),
    ...compareEnvironment(service, first),
  ];
  const isOld = containers.some(container => recreated.has(container.Name.slice(1)));
  if (isOld && details.length === 0) details.push('its configuration differs');
  if (containers.length !== wanted) details.push(`containers ${containers.length} → ${wanted}`);
  const stopped = containers.filter(container => !container.State.Running).length;
  if (isOld || details.some(detail => detail.startsWith('image ')))
    return { subject: name, change: 'recreate', details };
  if (containers.length !== wanted) return { subject: name, change: 'scale', details };
  if (stopped > 0)
    return { subject: name, change: 'start', details: [`${stopped} of ${containers.length} containers do not run`] };
  return { subject: name, change: 'none', details: [] };
}

async function compareImage(service: ComposeService, container: ContainerDetails, host: HostReader): Promise<string[]> {
  if (service.image === undefined) return [];
  if (service.image !== container.Config.Image) return [`image ${container.Config.Image} → ${service.image}`];
  const image = (await host.engine(`/images/${encodeURIComponent(service.image)}/json`)) as ReadResult<{ Id: string }>;
  if (image === null) return [`image ${service.image} is not on the host yet`];
  return image && image.Id !== container.Image ? [`image ${service.image} is a newer one on the host`] : [];
}

function comparePorts(service: ComposeService, container: ContainerDetails): string[] {
  const wanted = (service.ports ?? []).map(
    port => `${port.published ?? 'any'}:${port.target}/${port.protocol ?? 'tcp'}`,
  );
  const found = Object.entries(container.HostConfig.PortBindings ?? {}).flatMap(([port, bindings]) =>
    (bindings ?? []).map(({ HostPort }) => `${HostPort === '' || HostPort === '0' ? 'any' : HostPort}:${port}`),
  );
  return difference('ports', found, wanted);
}

function compareVolumes(service: ComposeService, container: ContainerDetails): string[] {
  const wanted = (service.volumes ?? []).filter(volume => volume.type !== 'tmpfs').map(volume => volume.target);
  const found = (container.Mounts ?? []).filter(mount => mount.Type !== 'tmpfs').map(mount => mount.Destination);
  // A volume that the image declares is mounted even if the compose file does not name it.
  return difference(
    'volumes',
    found.filter(
      path =>
        wanted.includes(path) ||
        (container.Mounts ?? []).some(mount => mount.Destination === path && mount.Type === 'bind'),
    ),
    wanted,
  );
}

function compareEnvironment(service: ComposeService, container: ContainerDetails): string[] {
  const found = new Map(
    (container.Config.Env ?? []).map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
  // "config" writes a literal "$" as "$$".
  const changed = Object.entries(service.environment ?? {}).filter(
    ([name, value]) => value !== null && found.get(name) !== value.replaceAll('$$', '$'),
  );
  return changed.length === 0 ? [] : [`environment ${changed.map(([name]) => name).join(', ')}`];
}

function difference(what: string, found: string[], wanted: string[]): string[] {
  const from = found.toSorted().join(', ');
  const to = wanted.toSorted().join(', ');
  return from === to ? [] : [`${what} ${from || 'none'} → ${to || 'none'}`];
}
