import { Failure } from '../../plan/failure.ts';
import type { StrategyContext } from './strategy.ts';
import { shippedComposeFile } from './target.ts';

/** What of `docker compose config --format json` a strategy must know of a service. */
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

/** What the compose file of this rollout says, also where it is only about to be written; undefined in a dry run. Throws Failure `compose-invalid`. */
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

/** Throws Failure `service-unknown`. */
export function requireService(rendered: RenderedConfig, name: string): RenderedService {
  const service = rendered.services[name];
  if (service) return service;
  throw new Failure(
    'service-unknown',
    `The compose file has no service "${name}".`,
    `Its services are: ${Object.keys(rendered.services).join(', ')}.`,
  );
}

/** Why there can't be two containers of a service side by side; undefined where there can. */
export function explainSingle(name: string, service: RenderedService): string | undefined {
  if (service.container_name !== undefined) return `the container_name ${service.container_name} of ${name} is fixed`;
  const port = (service.ports ?? []).find(({ published }) => published !== undefined && /^[1-9]\d*$/.test(published));
  if (port) return `the published port ${port.published} of ${name} is fixed`;
  if (service.network_mode === 'host') return `${name} is in the host’s network`;
  return undefined;
}

export function strategyImpossible(strategy: string, obstacle: string, remedy: string): Failure {
  return new Failure('strategy-impossible', `This can't be rolled out by strategy: ${strategy}: ${obstacle}.`, remedy);
}
