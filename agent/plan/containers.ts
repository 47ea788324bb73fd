import type { ContainerInfo, ContainerInspectInfo, HostConfig, PortBinding } from 'dockerode';
import type { ComposeProject } from './plan.ts';

/** The fields of `GET /containers/json` that the agent reads. */
export type ContainerListing = Pick<
  ContainerInfo,
  'Id' | 'Names' | 'Image' | 'ImageID' | 'State' | 'Status' | 'Labels'
>;

/** The fields of `GET /containers/{id}/json` that the agent reads. */
export type ContainerDetails = Pick<
  ContainerInspectInfo,
  'Id' | 'Name' | 'Image' | 'RestartCount' | 'Config' | 'State' | 'Mounts' | 'NetworkSettings'
> & {
  HostConfig: Pick<HostConfig, 'RestartPolicy'> & { PortBindings?: Record<string, PortBinding[] | null> };
};

const LABEL = 'com.docker.compose';

/** Reads a label that compose sets, such as `service` or `project`; empty if the container has none. */
export function composeLabel({ Labels }: { Labels?: Record<string, string> | null | undefined }, name: string): string {
  return Labels?.[`${LABEL}.${name}`] ?? '';
}

/**
 * Returns the Engine API's path for the containers of a compose project, found by the folder that compose labels them
 * with. Stopped containers are listed too, unless only `running` ones are wanted; one-off containers never are.
 */
export function composeContainersPath(
  { dir, name }: Pick<ComposeProject, 'dir' | 'name'>,
  { running = false }: { running?: boolean } = {},
): string {
  const label = [`${LABEL}.project.working_dir=${dir}`, `${LABEL}.oneoff=False`];
  if (name !== undefined) label.push(`${LABEL}.project=${name}`);
  const filters = JSON.stringify(running ? { label, status: ['running'] } : { label });
  return `/containers/json?${running ? '' : 'all=1&'}filters=${encodeURIComponent(filters)}`;
}
