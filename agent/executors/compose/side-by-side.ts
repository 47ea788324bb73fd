import { Failure } from '../../plan/failure.ts';
import type { ComposeConfig, ComposeService } from '../../plan/plan.ts';

/** Returns a service of the config. Throws Failure `service-unknown`. */
export function requireService({ services }: ComposeConfig, name: string): ComposeService {
  const service = Object.hasOwn(services, name) ? services[name] : undefined;
  if (service) return service;
  throw new Failure(
    'service-unknown',
    `The compose file has no service "${name}".`,
    `Its services are: ${Object.keys(services).join(', ')}.`,
  );
}

/** Returns the reason why a service can't have two containers side by side; undefined if it can. */
export function explainSingle(name: string, service: ComposeService): string | undefined {
  if (service.container_name !== undefined) return `the container_name ${service.container_name} of ${name} is fixed`;
  const port = (service.ports ?? []).find(({ published }) => published !== undefined && /^[1-9]\d*$/.test(published));
  if (port) return `the published port ${port.published} of ${name} is fixed`;
  if (service.network_mode === 'host') return `${name} is in the host’s network`;
  return undefined;
}

export function strategyImpossible(strategy: string, obstacle: string, remedy: string): Failure {
  return new Failure('strategy-impossible', `The strategy ${strategy} can't be used here: ${obstacle}.`, remedy);
}
