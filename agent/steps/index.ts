import { readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { messageOf } from '../../protocol/refusal.ts';
import {
  type CircuitBreakers,
  circuitOpenRefusal,
  isExternalHost,
  isRegistryDown,
  listRegistries,
} from '../outbound/circuit-breaker.ts';
import { type DockerEngine, inspectAll, serviceLabelOf } from '../outbound/docker.ts';
import { Failure } from '../plan/failure.ts';
import type {
  AwaitHealthyStep,
  ExpectListedStep,
  FileChange,
  HttpStep,
  JudgeConfigStep,
  MeasureStep,
  SecretSource,
  StartStep,
  Step,
  TcpStep,
  TidyStep,
} from '../plan/plan.ts';
import type { OutputChunk, StepResult, StepRunner } from '../plan/progress.ts';
import { secretsOfRendered } from '../secrets/stack-secrets.ts';
import { changeFiles, restoreFiles } from '../system/file-changes.ts';
import { Redactor } from '../system/redactor.ts';
import { countOrders, Supervisor } from '../system/supervisor.ts';
import { runSourceCheck, runTargetCheck } from './backup-preflight.ts';
import { checkRenderedConfig } from './compose-policy.ts';
import { awaitHealthy, listContainers, settle } from './health.ts';
import { runProbe } from './probe.ts';
import { findNewBackup, readArchive } from './proxmox-listing.ts';
import { prune } from './prune.ts';
import {
  expectEnding,
  publishBackup,
  recordDrill,
  recordSnapshot,
  tallyListing,
  verifyBackup,
} from './publish-backup.ts';
import { recordRelease } from './record-release.ts';
import { shippedPath } from './run-folder.ts';
import { runStartStep } from './start.ts';
import { removePath, swapPaths } from './swap.ts';

type StepExecution = AsyncGenerator<OutputChunk, StepResult>;

/** Longer than compose's own patience with a container that ignores TERM (10 s by default). */
const GRACE_MS = 30_000;

/** How often a stack is brought up again while its health is waited for. */
const MOST_REVIVALS = 3;

/** How long an engine that does not answer is waited for: it may be starting again. */
const ENGINE_PATIENCE_MS = 60_000;

/** How compose calls the container that is to take another's place until it does. */
const TEMPORARY = /^[0-9a-f]{12}_/;

const SUCCEEDED: StepResult = { outcome: 'succeeded' };

export interface StepRunnerOptions {
  engine: DockerEngine;
  environment: Record<string, string>;
  /** argv that starts a keeper: this program with the command `keeper`. */
  keeper: readonly [string, ...string[]];
  /** The run's own folder, named after it: step output, what was replaced, the command's files. */
  runDir: string;
  grace?: number;
  /** What must not be told; what a step brings to light is added. */
  redactor?: Redactor;
  /** Bytes that a step may print. */
  outputLimit?: number;
  /** Who is left alone since it does not work. */
  circuits?: CircuitBreakers;
}

/** The hands of one run on this host, and the way to let go of them. */
export function createStepRunner(options: StepRunnerOptions): StepRunner & { end(): void } {
  const keeper = new Supervisor(options.keeper);
  const { redactor = new Redactor(), outputLimit } = options;
  const runStart = (
    step: StartStep,
    place: { document: number; index: number | string },
    signal: AbortSignal,
    resumed?: { offset: number },
  ): StepExecution => {
    const base = join(options.runDir, `${place.document}-${place.index}`);
    const { environment, grace = GRACE_MS } = options;
    return runStartStep(step, { keeper, environment, secret, base, grace, resumed, redactor, outputLimit }, signal);
  };
  const { circuits } = options;
  /** By the document whose config was judged. */
  const registries = new Map<number, string[]>();
  /** Pulls, unless a registry is left alone. */
  async function* runPull(
    step: StartStep,
    place: StepPosition,
    signal: AbortSignal,
    resumed?: { offset: number },
  ): StepExecution {
    const names = (registries.get(place.document) ?? []).map(host => `registry ${host}`);
    const open = resumed ? undefined : names.map(name => circuits?.open(name)).find(Boolean);
    if (open) return { outcome: 'failed', ...circuitOpenRefusal(open) };
    const ending = yield* runStart(step, place, signal, resumed);
    const said = ending.message ?? '';
    if (ending.outcome === 'succeeded') await Promise.all(names.map(name => circuits?.succeeded(name)));
    else if (ending.outcome === 'failed' && isRegistryDown(said)) {
      const named = names.filter(name => said.includes(name.replace('registry ', '')));
      await Promise.all((named.length > 0 ? named : names).map(name => circuits?.failed(name)));
    }
    return ending;
  }
  /** Asks an address, and takes note of whether one outside of this host works. */
  async function* probeWithBreaker(step: HttpStep | TcpStep, signal: AbortSignal): StepExecution {
    const host = step.do === 'tcp' ? step.host : new URL(step.url).hostname.replace(/^\[|\]$/g, '');
    const ending = yield* runProbe(options.engine, step, signal);
    if (isExternalHost(host)) {
      if (ending.outcome === 'succeeded') await circuits?.succeeded(`verify ${host}`);
      else if (ending.code === 'verify-failed') await circuits?.failed(`verify ${host}`);
    }
    return ending;
  }
  const secret = (of: SecretSource) => readSecret(of, options.engine);
  async function* runTidy(
    step: TidyStep,
    place: StepPosition,
    signal: AbortSignal,
    resumed?: { offset: number },
  ): StepExecution {
    const left = await findContainersToRemove(options.engine, step, signal);
    if (left.length === 0) return SUCCEEDED;
    // 1: one is gone already.
    const argv: StartStep['argv'] = [step.docker, 'container', 'rm', '--force', ...left];
    const failure = { code: 'docker-failed', remedy: 'Remove the containers on the host.' };
    return yield* runStart(
      { do: 'start', name: step.name, argv, timeout: step.timeout, okCodes: [0, 1], repeatable: true, failure },
      place,
      signal,
      resumed,
    );
  }
  async function* runExpectListed(
    step: ExpectListedStep,
    place: StepPosition,
    signal: AbortSignal,
    resumed?: { offset: number },
  ): StepExecution {
    const stdoutTo = join(options.runDir, `${place.document}-${place.index}.json`);
    const failure = { code: 'backup-not-listed', remedy: 'Run the command on the host to see why.' };
    const { name, argv, timeout } = step;
    const asked: StartStep = { do: 'start', name, argv, timeout, stdoutTo, repeatable: true, failure };
    const ending = yield* runStart(asked, place, signal, resumed);
    if (ending.outcome !== 'succeeded') return ending;
    const found = findNewBackup(await readFile(stdoutTo, 'utf8'), step);
    if (!step.read || !found.backup) return found;
    let asking = 0;
    // Never taken up again after a restart: reading twice does no harm.
    const inner = (one: StartStep) =>
      runStart(one, { ...place, index: `${place.index}-${Date.now()}-${++asking}` }, signal);
    return yield* readArchive(step.read, { ...found, backup: found.backup }, `${stdoutTo}.path`, inner);
  }
  async function* runComposePolicy(
    step: JudgeConfigStep,
    place: StepPosition,
    signal: AbortSignal,
    resumed?: { offset: number },
  ): StepExecution {
    const stdoutTo = join(options.runDir, `${place.document}-${place.index}.json`);
    const failure = { code: 'compose-invalid', remedy: 'Correct the compose file. Nothing was started.' };
    const { name, argv, cwd, timeout } = step;
    const asked: StartStep = { do: 'start', name, argv, cwd, timeout, stdoutTo, repeatable: true, failure };
    try {
      const ending = yield* runStart(asked, place, signal, resumed);
      if (ending.outcome !== 'succeeded') return ending;
      const rendered = await readFile(stdoutTo, 'utf8');
      const config = JSON.parse(rendered) as { services?: Record<string, { image?: string }> };
      for (const value of secretsOfRendered(config)) redactor.add(value);
      const images = Object.values(config.services ?? {}).flatMap(({ image }) => image ?? []);
      registries.set(place.document, listRegistries(images));
      return checkRenderedConfig(rendered, step);
    } finally {
      // It holds what env files hold.
      await rm(stdoutTo, { force: true });
    }
  }
  /** Waits for health, and brings up again what the engine was still stopping. */
  async function* runAwaitHealthy(step: AwaitHealthyStep, place: StepPosition, signal: AbortSignal): StepExecution {
    const deadline = performance.now() + step.timeout;
    for (let revived = 0; ; revived++) {
      const base = join(options.runDir, `${place.document}-${place.index}-up${revived + 1}`);
      // An earlier agent may have ordered it.
      if (countOrders(base) > 0) {
        await keeper.find(`${base}-${countOrders(base)}`).exited;
        continue;
      }
      const timeout = Math.max(deadline - performance.now(), 1_000);
      const mayRevive = step.revive !== undefined && revived < MOST_REVIVALS;
      const ending = yield* runHealthWatch(awaitHealthy(options.engine, { ...step, timeout }, signal, mayRevive));
      if (ending.code !== 'service-stopped' || !step.revive) return ending;
      yield { text: 'The engine had not come to its end yet: up again.\n' };
      const { environment, grace = GRACE_MS } = options;
      const up = yield* runStartStep(step.revive.up, { keeper, environment, secret, base, grace, redactor }, signal);
      if (up.outcome !== 'succeeded') return up;
    }
  }
  return {
    run(step, place, signal, resumed): StepExecution {
      switch (step.do) {
        case 'start':
          return step.pulls ? runPull(step, place, signal, resumed) : runStart(step, place, signal, resumed);
        case 'tidy':
          return runTidy(step, place, signal, resumed);
        case 'write':
          return runFileChanges(
            step,
            changeFiles(step.changes, keptFolder(options, place.document, step.name), createContentReader(options)),
          );
        case 'restore':
          return runFileChanges(step, restoreFiles(keptFolder(options, place.document, step.of)));
        case 'await-healthy':
          return runAwaitHealthy(step, place, signal);
        case 'settle':
          return runHealthWatch(settle(options.engine, step, signal));
        case 'http':
        case 'tcp':
          return probeWithBreaker(step, signal);
        case 'measure':
          return retryWhenEngineAnswers(options.engine, signal, () => measureImages(options.engine, step));
        case 'check-target':
          return runTargetCheck(step);
        case 'check-source':
          return runSourceCheck(step);
        case 'seal':
          return publishBackup(step, signal);
        case 'note-snapshot':
          return recordSnapshot(step);
        case 'tally':
          return tallyListing(step);
        case 'check-backup':
          return verifyBackup(step, signal);
        case 'swap':
          return swapPaths(step);
        case 'clear':
          return removePath(step);
        case 'note-drill':
          return recordDrill(step);
        case 'expect-ending':
          return expectEnding(step);
        case 'judge-config':
          return runComposePolicy(step, place, signal, resumed);
        case 'expect-listed':
          return runExpectListed(step, place, signal, resumed);
        case 'prune':
          return prune(step, inner => runStart(inner, place, signal, resumed));
        case 'remember':
          return retryWhenEngineAnswers(options.engine, signal, () =>
            recordRelease(options.engine, step, basename(options.runDir), sha256 =>
              shippedPath(options.runDir, sha256),
            ),
          );
      }
    },
    end: () => keeper.end(),
  };
}

interface StepPosition {
  document: number;
  index: number;
}

/** Ids of the containers that a `tidy` step takes away. An engine that does not answer is waited for; then there are none to be seen. */
async function findContainersToRemove(
  engine: DockerEngine,
  { project, keep }: TidyStep,
  signal: AbortSignal,
): Promise<string[]> {
  await engine.waitUntilReady(ENGINE_PATIENCE_MS, signal);
  const containers = await listContainers(engine, project).catch((error: unknown) => {
    if (error instanceof Failure) return [];
    throw error;
  });
  const isLeft = ({ Id, State, Names }: (typeof containers)[number]) =>
    keep ? !keep.includes(Id) : State === 'created' && TEMPORARY.test(Names[0]?.slice(1) ?? '');
  return containers.filter(isLeft).map(({ Id }) => Id);
}

/** Undefined for a variable that the container has not. Throws Failure: `secret-unreadable`, `docker-unreachable`. */
async function readSecret(of: SecretSource, engine: DockerEngine): Promise<string | undefined> {
  if ('file' in of) {
    try {
      return (await readFile(of.file, 'utf8')).split('\n')[0];
    } catch (error) {
      throw new Failure(
        'secret-unreadable',
        `A password can't be read: ${messageOf(error)}`,
        'Correct password_file in agent.yaml, or let the agent’s user read it.',
      );
    }
  }
  const found = (await engine.get(`/containers/${encodeURIComponent(of.container)}/json`)) as {
    Config?: { Env?: string[] };
  } | null;
  const lines = found?.Config?.Env ?? [];
  const name = of.variables.find(one => lines.some(line => line.startsWith(`${one}=`)));
  return name === undefined ? undefined : lines.find(line => line.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** Where a `write` step keeps what it replaced. */
function keptFolder(options: StepRunnerOptions, document: number, step: string): string {
  return join(options.runDir, 'kept', `${document}-${step.replaceAll(/[^a-z0-9]+/g, '-')}`);
}

function createContentReader(options: StepRunnerOptions) {
  return async (change: FileChange): Promise<Buffer> => {
    if ('remove' in change) return Buffer.alloc(0);
    if ('text' in change.content) return Buffer.from(change.content.text);
    return readFile(
      'file' in change.content ? change.content.file : shippedPath(options.runDir, change.content.shipped),
    );
  };
}

async function* runFileChanges(
  step: Step,
  changing: AsyncGenerator<{ path: string; did: 'written' | 'removed' }>,
): StepExecution {
  const done = { written: new Set<string>(), removed: new Set<string>() };
  try {
    for await (const { path, did } of changing) {
      if (!done[did].has(path)) yield { text: `${did} ${path}\n` };
      done[did].add(path);
    }
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { outcome: 'failed', code: error.code, message: `"${step.name}": ${error.message}`, remedy: error.remedy };
  }
  return { outcome: 'succeeded', files: { written: [...done.written], removed: [...done.removed] } };
}

async function* runHealthWatch(waiting: ReturnType<typeof awaitHealthy>): StepExecution {
  let next = await waiting.next();
  for (; !next.done; next = await waiting.next()) yield { text: next.value };
  const { ok, ...why } = next.value;
  if (ok) return SUCCEEDED;
  return { outcome: why.code === 'cancelled' ? 'cancelled' : 'failed', ...why };
}

/** Does it, and where the engine does not answer waits for it for a while and does it again. */
async function* retryWhenEngineAnswers(
  engine: DockerEngine,
  signal: AbortSignal,
  work: () => StepExecution,
): StepExecution {
  for (let tried = false; ; tried = true) {
    try {
      return yield* work();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (tried || !(await engine.waitUntilReady(ENGINE_PATIENCE_MS, signal))) {
        return { outcome: 'failed', code: error.code, message: error.message, remedy: error.remedy };
      }
    }
  }
}

async function* measureImages(engine: DockerEngine, step: MeasureStep): StepExecution {
  const containers = await inspectAll(engine, await listContainers(engine, step.project));
  const seen = containers
    .filter(({ listed }) => listed.State !== 'created')
    .map(({ listed, inspected }) => ({
      service: serviceLabelOf(listed),
      container: listed.Id,
      reference: inspected.Config.Image,
      image: inspected.Image,
    }));
  for (const one of seen) yield { text: `${one.service}: ${one.reference} ${one.image.slice(0, 19)}\n` };
  return { outcome: 'succeeded', seen };
}
