import { setTimeout as sleep } from 'node:timers/promises';
import { type DockerEngine, inspectAll } from '../outbound/docker.ts';
import {
  type ContainerDetails,
  type ContainerListing,
  composeContainersPath,
  composeLabel,
} from '../plan/containers.ts';
import { Failure } from '../plan/failure.ts';
import type { AwaitHealthyStep, ComposeProject, Milliseconds, SettleStep } from '../plan/plan.ts';

const POLL_MS = 250;

/** The last lines that are logged of so many unhealthy containers. */
const LAST_LINES = 15;
const MAX_LOGGED_CONTAINERS = 4;

type ContainerHealth = { state: 'good' | 'waiting' | 'bad'; text: string; code?: string };

export interface HealthResult {
  ok: boolean;
  code?: string;
  message?: string;
  remedy?: string;
}

/** Returns the project's containers; only those of its named services if it names some. */
export async function listContainers(engine: DockerEngine, project: ComposeProject): Promise<ContainerListing[]> {
  const all = ((await engine.get(composeContainersPath(project))) ?? []) as ContainerListing[];
  return all.filter(container => !project.services || project.services.includes(composeLabel(container, 'service')));
}

/** Redacts what containers printed. */
type RedactText = (text: string) => string;

/**
 * Yields a line whenever a container's state changes. Asks an engine that does not answer until the deadline: it may be
 * restarting. An abort returns the code `cancelled`; with `mayRevive`, a container that was stopped from outside returns the
 * code `service-stopped`.
 */
export async function* awaitHealthy(
  engine: DockerEngine,
  step: AwaitHealthyStep,
  signal: AbortSignal,
  redact: RedactText,
  mayRevive = false,
): AsyncGenerator<string, HealthResult> {
  const deadline = performance.now() + step.timeout;
  const reported = new Map<string, string>();
  for (;;) {
    const verdicts = await checkAllNow(engine, step, (container, settle, now) =>
      mayRevive && wasStopped(container, step.revive?.ran ?? [])
        ? { state: 'bad', text: `was stopped (exit code ${container.State.ExitCode})`, code: 'service-stopped' }
        : checkContainer(container, settle, now, redact),
    );
    yield* reportChanges(verdicts, reported);
    const bad = [...verdicts].find(([, verdict]) => verdict.state === 'bad');
    if (bad) {
      if (bad[1].code !== 'service-stopped') yield* tailContainerLogs(engine, [bad[0]], redact);
      return toFailedHealth(bad);
    }
    const waiting = [...verdicts].filter(([, verdict]) => verdict.state === 'waiting');
    if (waiting.length === 0) return { ok: true };
    if (performance.now() >= deadline) {
      yield* tailContainerLogs(
        engine,
        waiting.map(([name]) => name),
        redact,
      );
      const states = waiting.map(([name, verdict]) => `${name}: ${verdict.text}`).join('; ');
      return {
        ok: false,
        code: verdicts.has(ENGINE) ? 'docker-unreachable' : 'health-timeout',
        message: `Not healthy within ${Math.round(step.timeout / 1000)} s. ${states}`,
        remedy: 'Look at the containers’ logs on the host, or give the intent a longer "timeout".',
      };
    }
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return CANCELLED_HEALTH;
  }
}

/** Watches for `step.for` that every container stays good and is not restarted. Yields as {@link awaitHealthy} does. */
export async function* settle(
  engine: DockerEngine,
  step: SettleStep,
  signal: AbortSignal,
  redact: RedactText,
): AsyncGenerator<string, HealthResult> {
  const deadline = performance.now() + step.for;
  const reported = new Map<string, string>();
  const starts = new Map<string, string>();
  yield `watching for ${step.for / 1000} s\n`;
  for (;;) {
    const verdicts = await checkAllNow(engine, { ...step, settle: 0 }, (container, settleTime, now) => {
      const start = `${container.State.StartedAt} ${container.RestartCount}`;
      const before = starts.get(container.Id) ?? start;
      starts.set(container.Id, before);
      if (before !== start) return { state: 'bad', text: 'was restarted', code: 'service-exited' };
      return checkContainer(container, settleTime, now, redact);
    });
    yield* reportChanges(verdicts, reported);
    const bad = [...verdicts].find(([name, { state }]) => state === 'bad' || (state === 'waiting' && name !== ENGINE));
    if (bad) {
      yield* tailContainerLogs(engine, [bad[0]], redact);
      return toFailedHealth(bad);
    }
    if (performance.now() >= deadline) return { ok: true };
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return CANCELLED_HEALTH;
  }
}

const CANCELLED_HEALTH: HealthResult = { ok: false, code: 'cancelled', message: 'Cancelled while waiting for health.' };

/** Stands for the engine itself in place of a container's name. */
const ENGINE = 'docker';

function* reportChanges(verdicts: Map<string, ContainerHealth>, reported: Map<string, string>): Generator<string> {
  for (const [name, verdict] of verdicts) {
    if (reported.get(name) !== verdict.text) yield `${name}: ${verdict.text}\n`;
    reported.set(name, verdict.text);
  }
}

/** Yields the last log lines of containers: they usually say why they are unhealthy. */
async function* tailContainerLogs(
  engine: DockerEngine,
  containers: string[],
  redact: RedactText,
): AsyncGenerator<string> {
  for (const name of containers.slice(0, MAX_LOGGED_CONTAINERS)) {
    for (const line of await engine.lastLines(name, LAST_LINES).catch(() => [])) yield `${name} | ${redact(line)}\n`;
  }
}

function toFailedHealth([name, verdict]: [string, ContainerHealth]): HealthResult {
  return {
    ok: false,
    code: verdict.code ?? 'service-unhealthy',
    message: `${name}: ${verdict.text}`,
    remedy: `Read its output above, or run "docker logs ${name}" on the host.`,
  };
}

type WatchedProject = Pick<AwaitHealthyStep, 'project' | 'replicas' | 'checked' | 'settle'>;

/** `now` is the time of the engine's clock. */
type HealthCheck = (container: ContainerDetails, settle: Milliseconds, now: number) => ContainerHealth;

async function checkAllNow(
  engine: DockerEngine,
  step: WatchedProject,
  check: HealthCheck,
): Promise<Map<string, ContainerHealth>> {
  try {
    return await checkAll(engine, step, check);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return new Map([[ENGINE, { state: 'waiting', text: error.message }]]);
  }
}

async function checkAll(
  engine: DockerEngine,
  step: WatchedProject,
  check: HealthCheck,
): Promise<Map<string, ContainerHealth>> {
  const verdicts = new Map<string, ContainerHealth>();
  const counts = new Map<string, number>();
  const listed = await listContainers(engine, step.project);
  const found = await inspectAll(engine, listed);
  // Gone between the list and the inspection: the next round finds its replacement.
  for (const { Id } of listed) {
    if (!found.some(({ inspected }) => inspected.Id === Id))
      verdicts.set(Id.slice(0, 12), { state: 'waiting', text: 'being replaced' });
  }
  for (const { listed: container, inspected } of found) {
    const service = composeLabel(container, 'service');
    counts.set(service, (counts.get(service) ?? 0) + 1);
    const unchecked = step.checked?.includes(service) && !inspected.State.Health;
    verdicts.set(
      inspected.Name.slice(1),
      unchecked
        ? { state: 'bad', text: 'has no health check', code: 'health-check-missing' }
        : check(inspected, step.settle, engine.now()),
    );
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

function checkContainer(
  container: ContainerDetails,
  settle: Milliseconds,
  now: number,
  redact: RedactText,
): ContainerHealth {
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
  if (container.RestartCount >= 3 && runningFor(state.StartedAt, now) < Math.max(settle, 10_000)) {
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
    const output = last
      ? ` (exit code ${last.ExitCode}: ${redact(last.Output).trim().slice(-200) || 'no output'})`
      : '';
    return { state: 'bad', text: `unhealthy${output}`, code: 'service-unhealthy' };
  }
  if (runningFor(state.StartedAt, now) >= settle) return { state: 'good', text: 'running' };
  return { state: 'waiting', text: 'running, settling' };
}

/** Returns true for a container that was stopped, not one that ended by itself: a signal, a restart policy or its past shows it. */
function wasStopped({ Id, State: state, HostConfig }: ContainerDetails, ran: string[]): boolean {
  if (state.Status !== 'exited' || state.OOMKilled) return false;
  const restarts = HostConfig?.RestartPolicy?.Name ?? 'no';
  return [137, 143].includes(state.ExitCode) || ['always', 'unless-stopped'].includes(restarts) || ran.includes(Id);
}

function runningFor(startedAt: string, now: number): number {
  return now - Date.parse(startedAt);
}
