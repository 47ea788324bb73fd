import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Deployment, IntentDocument } from '../../protocol/command.ts';
import type { SecretKey } from '../../protocol/keys.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import type { HostSite } from '../executors/executor.ts';
import { type CircuitBreakers, checkCircuits } from '../outbound/circuit-breaker.ts';
import { digestOfPlans } from '../plan/digest.ts';
import { Failure } from '../plan/failure.ts';
import type { HostReader, Plan } from '../plan/plan.ts';
import type { DocumentResult } from '../plan/progress.ts';
import { listShippedFiles, shippedPath } from '../steps/run-folder.ts';
import type { RunStore } from '../store/runs.ts';
import { blindHostReader } from '../system/host-reader.ts';
import { type DocumentIndex, indexed, numberOf } from './document-index.ts';

/** The sources of a plan. */
export interface PlanningDeps {
  store: RunStore;
  /** `<state_dir>/runs`, with one folder per run. */
  folder: string;
  site: () => HostSite;
  /** The agent's keys, the current one first. */
  keys: () => readonly [SecretKey, ...SecretKey[]];
  look: HostReader;
  /** Circuit breakers of external services. */
  circuits?: CircuitBreakers;
  now: () => string;
}

/** Returns true for a plan or a dry run. */
export function isReadOnlyRun({ command }: AdmittedCommand): boolean {
  return command.type === 'plan' || command.dry_run;
}

/** Returns the folder of a document's checked compose configs. */
function configsFolder(runDir: string, index: DocumentIndex): string {
  return join(runDir, `compose-${numberOf(index)}`);
}

/** Removes the checked configs of a document that is not executed: they hold the values of secrets. */
export function removeConfigs({ folder }: Pick<PlanningDeps, 'folder'>, run: string, index: DocumentIndex) {
  return rm(configsFolder(join(folder, run), index), { recursive: true, force: true });
}

/** Plans one document from the present state of the host. `compare`: the plan lists its changes. Throws Failure. */
export async function makePlan(
  { site, store, folder, now, circuits, look: host }: PlanningDeps,
  admitted: AdmittedCommand,
  index: DocumentIndex,
  compare: boolean,
): Promise<Plan> {
  const entry = admitted.documents[index];
  if (!entry) throw new RangeError(`No document ${index}`);
  const { executor, document } = entry;
  const { intent } = document;
  const { command } = admitted;
  const isReadOnly = isReadOnlyRun(admitted);
  if (!isReadOnly) checkCircuits(circuits, executor.listHosts(intent));
  const runDir = join(folder, command.id);
  const files = listShippedFiles(command.files, intent).map(file => ({
    ...file,
    at: shippedPath(runDir, file.sha256),
  }));
  const configs = configsFolder(runDir, index);
  if (!command.dry_run) await mkdir(configs, { recursive: true, mode: 0o700 });
  return executor.plan(
    intent,
    {
      document,
      run: command.id,
      at: now(),
      site: site(),
      ...{ files, configs },
      wantsDiff: compare,
      nonBackupIds: listNonBackupIds(command, document),
      ...(isReadOnly ? {} : { backups: store.backups() }),
    },
    command.dry_run ? blindHostReader : host,
  );
}

/**
 * Returns the ids in a rollout's `needs` that name no backup of this host: other documents of its file, and backups of other
 * hosts, whose outcome the sender reports.
 */
function listNonBackupIds(
  { intents, given = [] }: Deployment,
  { name, intent: { host, hosts } }: IntentDocument,
): string[] {
  const thisHost = JSON.stringify([host, hosts]);
  return [...intents, ...given].flatMap(other => {
    const isElsewhere = 'outcome' in other && JSON.stringify([other.intent.host, other.intent.hosts]) !== thisHost;
    const hasSucceededElsewhere = isElsewhere && other.outcome === 'succeeded';
    const isDocument = other.name === name && (other.intent.action !== 'backup' || hasSucceededElsewhere);
    return isDocument ? (other.intent.id ?? []) : [];
  });
}

/**
 * Compares the plans of all documents with the digest that the sender approved. Returns undefined if they are equal, if the
 * command has no digest, or if a plan fails: then the document's own result gives the reason.
 */
export async function checkPlanDigest(
  context: PlanningDeps,
  admitted: AdmittedCommand,
  untilDetached: <T>(work: Promise<T>) => Promise<T>,
): Promise<DocumentResult | undefined> {
  const { plan_digest: approved } = admitted.command;
  if (approved === undefined || isReadOnlyRun(admitted)) return undefined;
  try {
    const plans: Plan[] = [];
    for (const [index] of indexed(admitted.documents))
      plans.push(await untilDetached(makePlan(context, admitted, index, true)));
    const digest = digestOfPlans(admitted.command, plans, context.keys()[0]);
    return digest === approved ? undefined : planChangedResult(approved, digest);
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  } finally {
    // Each document is planned again when it is due.
    for (const [index] of indexed(admitted.documents)) await removeConfigs(context, admitted.command.id, index);
  }
}

function planChangedResult(approved: string, digest: string): DocumentResult {
  return {
    outcome: 'failed',
    code: 'plan-changed',
    message: `The plan has changed since it was approved: its digest is ${digest.slice(0, 16)}…, expected was ${approved.slice(0, 16)}…. Nothing was changed.`,
    remedy: 'Make a new plan (mode: plan), check it, and deploy with its digest.',
    changed: false,
  };
}
