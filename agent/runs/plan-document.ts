import { join } from 'node:path';
import type { Deployment, IntentDocument } from '../../protocol/command.ts';
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

/** What plans are made with. */
export interface PlanningDeps {
  store: RunStore;
  /** `<state_dir>/runs`: one folder a run. */
  folder: string;
  site: () => HostSite;
  look: HostReader;
  /** Who is left alone since it does not work. */
  circuits?: CircuitBreakers;
  now: () => string;
}

/** Whether a run only looks: a plan or a dry run. */
export function isReadOnlyRun({ command }: AdmittedCommand): boolean {
  return command.type === 'plan' || command.dry_run;
}

/** The plan of one document (its place, from 0), from what is true now. Throws Failure. */
export async function makePlan(
  context: PlanningDeps,
  admitted: AdmittedCommand,
  index: number,
  wantsDiff: boolean,
): Promise<Plan> {
  const { site, store, folder, now } = context;
  const entry = admitted.documents[index];
  if (!entry) throw new Error(`No document ${index}`);
  const { intent } = entry.document;
  const { command } = admitted;
  if (!isReadOnlyRun(admitted)) checkCircuits(context.circuits, entry.executor.listHosts(intent));
  const runDir = join(folder, command.id);
  const files = listShippedFiles(command.files, intent).map(file => ({
    ...file,
    at: shippedPath(runDir, file.sha256),
  }));
  return entry.executor.plan(
    intent,
    {
      document: entry.document,
      run: command.id,
      at: now(),
      site: site(),
      files,
      wantsDiff,
      nonBackupIds: listNonBackupIds(command, entry.document),
      ...(isReadOnlyRun(admitted) ? {} : { backups: store.backups() }),
    },
    command.dry_run ? blindHostReader : context.look,
  );
}

/** What a rollout may need beside backups of this host: other documents, and those of other hosts, whose outcome its sender tells. */
function listNonBackupIds(
  { intents, given = [] }: Deployment,
  { name, intent: { host, hosts } }: IntentDocument,
): string[] {
  const here = JSON.stringify([host, hosts]);
  return [...intents, ...given].flatMap(one => {
    const isElsewhere = 'outcome' in one && JSON.stringify([one.intent.host, one.intent.hosts]) !== here;
    const isOne = one.name === name && (one.intent.action !== 'backup' || (isElsewhere && one.outcome === 'succeeded'));
    return isOne ? (one.intent.id ?? []) : [];
  });
}

/** Undefined where what would be done is what somebody has looked at, or nobody asks; or where it can't be planned, which its document tells. */
export async function checkPlanDigest(
  context: PlanningDeps,
  admitted: AdmittedCommand,
  untilDetached: <T>(work: Promise<T>) => Promise<T>,
): Promise<DocumentResult | undefined> {
  const { plan_digest } = admitted.command;
  if (plan_digest === undefined || isReadOnlyRun(admitted)) return undefined;
  try {
    const plans: Plan[] = [];
    for (const place of admitted.documents.keys())
      plans.push(await untilDetached(makePlan(context, admitted, place, true)));
    const digest = digestOfPlans(admitted.command, plans);
    return digest === plan_digest ? undefined : planChangedResult(plan_digest, digest);
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  }
}

function planChangedResult(meant: string, is: string): DocumentResult {
  return {
    outcome: 'failed',
    code: 'plan-changed',
    message: `What would be done is not what was planned: the plan's digest is ${is.slice(0, 16)}…, meant was ${meant.slice(0, 16)}…. Nothing was changed.`,
    remedy: 'Make a new plan (mode: plan), look at it, and deploy with its digest.',
    changed: false,
  };
}
