import { join } from 'node:path';
import type { CircuitBreakers } from '../outbound/circuit-breaker.ts';
import type { DockerEngine } from '../outbound/docker.ts';
import { Failure } from '../plan/failure.ts';
import type { Milliseconds, Step } from '../plan/plan.ts';
import type { StepRunner } from '../plan/progress.ts';
import { Redactor } from '../system/redactor.ts';
import { Supervisor } from '../system/supervisor.ts';
import { runAwaitHealthy, runSettle } from './await-healthy.ts';
import { expectEnding, verifyBackup } from './backup/check.ts';
import { compareCopy } from './backup/compare-copy.ts';
import { runSourceCheck, runTargetCheck } from './backup/preflight.ts';
import { prune } from './backup/prune.ts';
import { publishBackup } from './backup/publish.ts';
import { recordDrill, recordSnapshot, tallyListing } from './backup/records.ts';
import { runMeasure } from './measure.ts';
import { runPrepareMounts } from './prepare-mounts.ts';
import { runProbe } from './probe.ts';
import { runExpectListed } from './proxmox-listing.ts';
import { runPull } from './pull.ts';
import { runRemember } from './record-release.ts';
import { failedResult, type Runner, type StepContext, type StepExecution } from './runner.ts';
import { runStart } from './start.ts';
import { removePath, swapPaths } from './swap.ts';
import { runTidy } from './tidy.ts';
import { runRestore, runWrite } from './write-files.ts';

/** A new kind of step is its type and description in plan/, its runner in a file here, and one line. */
const RUNNERS = {
  start: (step, context) => (step.registries ? runPull(step, context) : runStart(step, context)),
  tidy: runTidy,
  write: runWrite,
  restore: runRestore,
  'await-healthy': runAwaitHealthy,
  settle: runSettle,
  http: runProbe,
  tcp: runProbe,
  measure: runMeasure,
  remember: runRemember,
  'prepare-mounts': runPrepareMounts,
  'check-target': runTargetCheck,
  'check-source': runSourceCheck,
  'compare-copy': compareCopy,
  seal: (step, { signal }) => publishBackup(step, signal),
  'note-snapshot': recordSnapshot,
  tally: tallyListing,
  'check-backup': (step, { signal }) => verifyBackup(step, signal),
  'note-drill': recordDrill,
  'expect-ending': expectEnding,
  'expect-listed': runExpectListed,
  prune: (step, context) => prune(step, command => runStart(command, context)),
  swap: swapPaths,
  clear: removePath,
} satisfies { [K in Step['do']]: Runner<K> };

/** Longer than the 10 s after which compose kills a container that ignores TERM. */
const GRACE_MS = 30_000;

export interface StepRunnerOptions {
  engine: DockerEngine;
  environment: Record<string, string>;
  /** argv of this program's hidden command `keeper`, which starts a supervisor. */
  keeper: readonly [string, ...string[]];
  /** The run's own folder, named after it. */
  runDir: string;
  grace?: Milliseconds;
  redactor?: Redactor;
  outputLimit?: number;
  circuits?: CircuitBreakers;
}

/** Starts a supervisor for one run and returns the runner of its steps. `end` lets the supervisor finish. */
export function createStepRunner({
  keeper,
  grace = GRACE_MS,
  redactor = new Redactor(),
  outputLimit,
  circuits,
  ...rest
}: StepRunnerOptions): StepRunner & { end(): void } {
  const supervisor = new Supervisor(keeper);
  const shared = { ...rest, supervisor, grace, redactor, outputLimit, circuits };
  return {
    run(step, { document, index }, signal, resumed): StepExecution {
      const base = join(rest.runDir, `${document}-${index}`);
      return asResult(runnerOf(step)(step, { ...shared, document, base, signal, resumed }));
    },
    end: () => supervisor.end(),
  };
}

function runnerOf(step: Step): (step: Step, context: StepContext) => StepExecution {
  // The table has the runner for the step's own kind; the compiler does not follow that from `do` to the parameter.
  return RUNNERS[step.do] as Runner<never> as (step: Step, context: StepContext) => StepExecution;
}

/** A failure that a runner throws is its result. */
async function* asResult(execution: StepExecution): StepExecution {
  try {
    return yield* execution;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return failedResult(error);
  }
}
