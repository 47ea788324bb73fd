import { setTimeout as sleep } from 'node:timers/promises';
import { type Engine, type ListedContainer, projectContainers, serviceOf } from './docker.ts';
import type { AwaitHealthy, ComposeProject } from './plan.ts';

const POLL_MS = 250;

/** What of `GET /containers/{id}/json` health is judged by. */
interface Inspected {
  Name: string;
  RestartCount: number;
  HostConfig?: { RestartPolicy?: { Name?: string } };
  State: {
    Status: string;
    ExitCode: number;
    StartedAt: string;
    Health?: { Status: string; Log?: { ExitCode: number; Output: string }[] };
  };
}

type Verdict = { state: 'good' | 'waiting' | 'bad'; text: string; code?: string };

export interface HealthEnding {
  ok: boolean;
  code?: string;
  message?: string;
  remedy?: string;
}

/** Containers of the project, only those of the named services where some are named. Leftovers of a recreate are not among them. */
export async function containersOf(engine: Engine, project: ComposeProject): Promise<ListedContainer[]> {
  const all = ((await engine.get(projectContainers(project.dir))) ?? []) as ListedContainer[];
  return all.filter(container => !project.services || project.services.includes(serviceOf(container)));
}

/** Yields a line whenever a container's state changes; returns the verdict. Aborting ends it with code `cancelled`. */
export async function* awaitHealthy(
  engine: Engine,
  step: AwaitHealthy,
  signal: AbortSignal,
): AsyncGenerator<string, HealthEnding> {
  const deadline = Date.now() + step.timeout;
  const told = new Map<string, string>();
  for (;;) {
    const verdicts = await judgeAll(engine, step);
    for (const [name, verdict] of verdicts) {
      if (told.get(name) !== verdict.text) yield `${name}: ${verdict.text}\n`;
      told.set(name, verdict.text);
    }
    const bad = [...verdicts].find(([, verdict]) => verdict.state === 'bad');
    if (bad) {
      return {
        ok: false,
        code: bad[1].code ?? 'service-unhealthy',
        message: `${bad[0]}: ${bad[1].text}`,
        remedy: `Look at "docker logs ${bad[0]}" on the host.`,
      };
    }
    const waiting = [...verdicts].filter(([, verdict]) => verdict.state === 'waiting');
    if (waiting.length === 0) return { ok: true };
    if (Date.now() >= deadline) {
      const states = waiting.map(([name, verdict]) => `${name}: ${verdict.text}`).join('; ');
      return {
        ok: false,
        code: 'health-timeout',
        message: `Not healthy within ${Math.round(step.timeout / 1000)} s. ${states}`,
        remedy: 'Look at the containers’ logs on the host, or give the intent a longer "timeout".',
      };
    }
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return { ok: false, code: 'cancelled', message: 'Cancelled while waiting for health.' };
  }
}

async function judgeAll(engine: Engine, step: AwaitHealthy): Promise<Map<string, Verdict>> {
  const containers = await containersOf(engine, step.project);
  const verdicts = new Map<string, Verdict>();
  const counts = new Map<string, number>();
  for (const container of containers) {
    counts.set(serviceOf(container), (counts.get(serviceOf(container)) ?? 0) + 1);
    const inspected = (await engine.get(`/containers/${container.Id}/json`)) as Inspected | null;
    // Gone between the list and the look: the next round sees what took its place.
    if (!inspected) verdicts.set(container.Id.slice(0, 12), { state: 'waiting', text: 'being replaced' });
    else verdicts.set(inspected.Name.slice(1), judge(inspected, step.settle));
  }
  for (const [service, wanted] of Object.entries(step.replicas ?? {})) {
    const found = counts.get(service) ?? 0;
    if (found !== wanted) verdicts.set(service, { state: 'waiting', text: `${found} of ${wanted} containers` });
  }
  const absent = (step.project.services ?? []).filter(
    service => !counts.has(service) && step.replicas?.[service] === undefined,
  );
  for (const service of absent) verdicts.set(service, { state: 'waiting', text: 'no container yet' });
  return verdicts;
}

function judge(container: Inspected, settle: number): Verdict {
  const { State: state } = container;
  const restarts = container.HostConfig?.RestartPolicy?.Name ?? 'no';
  if (state.Status === 'exited' || state.Status === 'dead') {
    if (state.ExitCode === 0 && (restarts === 'no' || restarts === '' || restarts === 'on-failure')) {
      return { state: 'good', text: 'done (exit code 0)' };
    }
    if (restarts === 'no' || restarts === '') {
      return { state: 'bad', text: `ended with exit code ${state.ExitCode}`, code: 'service-exited' };
    }
    return { state: 'waiting', text: `ended with exit code ${state.ExitCode}` };
  }
  if (container.RestartCount >= 3 && runningFor(state.StartedAt) < Math.max(settle, 10_000)) {
    return {
      state: 'bad',
      text: `keeps restarting (${container.RestartCount} times, exit code ${state.ExitCode})`,
      code: 'service-exited',
    };
  }
  if (state.Status !== 'running') return { state: 'waiting', text: state.Status };
  if (state.Health && state.Health.Status !== 'none') {
    if (state.Health.Status === 'healthy') return { state: 'good', text: 'healthy' };
    if (state.Health.Status !== 'unhealthy')
      return { state: 'waiting', text: 'running, health check has not passed yet' };
    const last = state.Health.Log?.at(-1);
    const said = last ? ` (exit code ${last.ExitCode}: ${last.Output.trim().slice(-200) || 'no output'})` : '';
    return { state: 'bad', text: `unhealthy${said}`, code: 'service-unhealthy' };
  }
  if (runningFor(state.StartedAt) >= settle) return { state: 'good', text: 'running' };
  return { state: 'waiting', text: 'running, settling' };
}

function runningFor(startedAt: string): number {
  return Date.now() - Date.parse(startedAt);
}
