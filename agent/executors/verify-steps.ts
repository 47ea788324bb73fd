import type { AwaitHealthyStep, ComposeProject, Milliseconds, Step } from '../plan/plan.ts';
import { type HostSite, parseDuration, type Verify } from './executor.ts';

const TIMEOUT = '5s';
const RETRIES = 10;
const PAUSE = 1_000;

/** Plans the wait until a project is healthy. */
export function planHealthCheck(
  name: string,
  project: ComposeProject,
  { settle }: Pick<HostSite, 'settle'>,
  timeout: Milliseconds,
  more: Pick<AwaitHealthyStep, 'replicas' | 'checked' | 'revive'> = {},
): AwaitHealthyStep {
  return { do: 'await-healthy', name, project, settle, timeout, ...more };
}

/** Plans the checks of an intent. `again`: the same checks after an undo, under other names. */
export function planVerify(
  verify: Verify | undefined,
  project: ComposeProject,
  site: Pick<HostSite, 'verify' | 'settle'>,
  { healthy, again = false }: { healthy: Milliseconds; again?: boolean },
): Step[] {
  if (!verify) return [];
  const name = (check: string) => (again ? `verify again: ${check}` : `verify: ${check}`);
  const probe = (check: { timeout?: string | undefined; retries?: number | undefined }) => ({
    timeout: parseDuration(check.timeout ?? TIMEOUT),
    retries: check.retries ?? RETRIES,
    pause: PAUSE,
    project,
    allow: site.verify,
  });
  const checked = verify.healthy;
  const steps: Step[] = [
    ...(checked
      ? [planHealthCheck(name('healthy'), { ...project, services: checked }, site, healthy, { checked })]
      : []),
    ...(verify.settle === undefined
      ? []
      : [{ do: 'settle' as const, name: name('settle'), project, for: parseDuration(verify.settle) }]),
    ...[verify.tcp ?? []].flat().map((check): Step => {
      const colon = check.address.lastIndexOf(':');
      const host = check.address.slice(0, colon).replace(/^\[|\]$/g, '');
      return {
        do: 'tcp',
        name: name(check.address),
        host,
        port: Number(check.address.slice(colon + 1)),
        ...probe(check),
      };
    }),
    ...[verify.http ?? []].flat().map(
      (check): Step => ({
        do: 'http',
        name: name(check.url),
        url: check.url,
        status: [check.status ?? 200].flat(),
        ...(check.body === undefined ? {} : { body: check.body }),
        ...probe(check),
      }),
    ),
  ];
  // An intent may check one address twice, for different answers.
  return steps.map((step, index) => {
    const isDuplicate = steps.findIndex(other => other.name === step.name) !== index;
    return isDuplicate ? { ...step, name: `${step.name} (${index + 1})` } : step;
  });
}
