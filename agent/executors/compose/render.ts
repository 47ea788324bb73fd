import { Failure } from '../../plan/failure.ts';
import type { StrategyContext } from './strategy.ts';
import { shippedComposeFile } from './target.ts';

/** The fields of a service in `docker compose config --format json` that a strategy needs. */
export interface RenderedService {
  container_name?: string;
  network_mode?: string;
  scale?: number;
  deploy?: { replicas?: number };
  ports?: { target: number; published?: string }[];
  volumes?: { type: string; source?: string }[];
}

export interface RenderedConfig {
  name: string;
  services: Record<string, RenderedService>;
  volumes?: Record<string, { name?: string; external?: boolean } | null>;
}

/** Renders the compose file of this rollout, also if it is not written yet; undefined in a dry run. Throws Failure `compose-invalid`. */
export async function renderConfig({
  intent,
  target,
  site,
  files,
  host,
}: StrategyContext): Promise<RenderedConfig | undefined> {
  const shipped = shippedComposeFile(intent, site, files);
  const argv = target.compose(['config', '--format', 'json'], shipped ? { files: [shipped.at] } : {});
  const answer = await host.ask(argv, { cwd: target.dir });
  if (!answer) return undefined;
  if (answer.code === 0) return JSON.parse(answer.stdout) as RenderedConfig;
  throw new Failure(
    'compose-invalid',
    `The compose file is not valid: ${answer.stderr.trim().slice(-500)}`,
    'Correct the compose file. Nothing was changed.',
  );
}

/** Returns a service of the config. Throws Failure `service-unknown`. */
export function requireService(rendered: RenderedConfig, name: string): RenderedService {
  const service = rendered.services[name];
  if (service) return service;
  throw new Failure(
    'service-unknown',
    `The compose file has no service "${name}".`,
    `Its services are: ${Object.keys(rendered.services).join(', ')}.`,
  );
}

/** Returns the reason why a service can't have two containers side by side; undefined if it can. */
export function explainSingle(name: string, service: RenderedService): string | undefined {
  if (service.container_name !== undefined) return `the container_name ${service.container_name} of ${name} is fixed`;
  const port = (service.ports ?? []).find(({ published }) => published !== undefined && /^[1-9]\d*$/.test(published));
  if (port) return `the published port ${port.published} of ${name} is fixed`;
  if (service.network_mode === 'host') return `${name} is in the host’s network`;
  return undefined;
}

export function strategyImpossible(strategy: string, obstacle: string, remedy: string): Failure {
  return new Failure('strategy-impossible', `The strategy ${strategy} can't be used here: ${obstacle}.`, remedy);
}
