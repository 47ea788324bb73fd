import { Failure } from '../../plan/failure.ts';
import type { ComposeConfig, ComposeService, HostReader } from '../../plan/plan.ts';

/**
 * Checks that each service that is built elsewhere has its image on the host: the agent builds none, and a pull leaves these
 * services out. Throws Failure `image-missing`.
 */
export async function requireBuiltImages(
  { services }: ComposeConfig,
  { service, profiles }: { service: string | undefined; profiles: string[] },
  project: string,
  host: HostReader,
): Promise<void> {
  const isStarted = ([name, one]: [string, ComposeService]) =>
    service === undefined ? isActive(one, profiles) : name === service;
  for (const [name, one] of Object.entries(services).filter(isStarted)) {
    if (one.build === undefined || replicasOf(one) === 0) continue;
    const image = one.image ?? `${project}-${name}`;
    if ((await host.engine(`/images/${encodeURIComponent(image)}/json`)) !== null) continue;
    throw new Failure(
      'image-missing',
      `service ${name}: The image ${image} is not on this host, and the agent builds none.`,
      `Push the image to a registry and name it without "build", or build it on the host first: docker compose build ${name}. Nothing was changed.`,
    );
  }
}

function isActive({ profiles = [] }: ComposeService, active: string[]): boolean {
  return profiles.length === 0 || active.includes('*') || profiles.some(profile => active.includes(profile));
}

function replicasOf({ scale, deploy }: ComposeService): number {
  return scale ?? deploy?.replicas ?? 1;
}
