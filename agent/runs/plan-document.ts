import { join } from 'node:path';
import type { Deployment, Document } from '../../protocol/command.ts';
import type { Admitted } from '../admission/admitted.ts';
import type { Site } from '../executors/executor.ts';
import { type Circuits, checkCircuits } from '../outbound/circuit-breaker.ts';
import { digestOfPlans } from '../plan/digest.ts';
import { CannotPlan } from '../plan/failure.ts';
import type { Look, Plan } from '../plan/plan.ts';
import type { DocumentEnding } from '../plan/progress.ts';
import { shippedFor, shippedPath } from '../steps/run-folder.ts';
import type { Store } from '../store/runs.ts';
import { blindLook } from '../system/host-reader.ts';

/** What plans are made with. */
export interface Planner {
  store: Store;
  /** `<state_dir>/runs`: one folder a run. */
  folder: string;
  site: () => Site;
  look: Look;
  /** Who is left alone since it does not work. */
  circuits?: Circuits;
  now: () => string;
}

/** Whether a run only looks: a plan or a dry run. */
export function looksOnly({ command }: Admitted): boolean {
  return command.type === 'plan' || command.dry_run;
}

/** The plan of one document (its place, from 0), from what is true now. Throws CannotPlan. */
export async function makePlan(context: Planner, admitted: Admitted, place: number, compare: boolean): Promise<Plan> {
  const { site, store, folder, now } = context;
  const entry = admitted.documents[place];
  if (!entry) throw new Error(`No document ${place}`);
  const { intent } = entry.document;
  const { command } = admitted;
  if (!looksOnly(admitted)) checkCircuits(context.circuits, entry.executor.asks(intent));
  const runDir = join(folder, command.id);
  const files = shippedFor(command.files, intent).map(file => ({ ...file, at: shippedPath(runDir, file.sha256) }));
  return entry.executor.plan(
    intent,
    {
      document: entry.document,
      run: command.id,
      at: now(),
      site: site(),
      files,
      compare,
      notBackups: notBackups(command, entry.document),
      ...(looksOnly(admitted) ? {} : { backups: store.backups() }),
    },
    command.dry_run ? blindLook : context.look,
  );
}

/** What a rollout may need beside backups of this host: other documents, and those of other hosts, whose outcome its sender tells. */
function notBackups({ intents, given = [] }: Deployment, { name, intent: { host, hosts } }: Document): string[] {
  const here = JSON.stringify([host, hosts]);
  return [...intents, ...given].flatMap(one => {
    const isElsewhere = 'outcome' in one && JSON.stringify([one.intent.host, one.intent.hosts]) !== here;
    const isOne = one.name === name && (one.intent.action !== 'backup' || (isElsewhere && one.outcome === 'succeeded'));
    return isOne ? (one.intent.id ?? []) : [];
  });
}

/** Undefined where what would be done is what somebody has looked at, or nobody asks; or where it can't be planned, which its document tells. */
export async function unlikeItsPlan(
  context: Planner,
  admitted: Admitted,
  unlessLeft: <T>(work: Promise<T>) => Promise<T>,
): Promise<DocumentEnding | undefined> {
  const { plan_digest } = admitted.command;
  if (plan_digest === undefined || looksOnly(admitted)) return undefined;
  try {
    const plans: Plan[] = [];
    for (const place of admitted.documents.keys())
      plans.push(await unlessLeft(makePlan(context, admitted, place, true)));
    const digest = digestOfPlans(admitted.command, plans);
    return digest === plan_digest ? undefined : planChanged(plan_digest, digest);
  } catch (error) {
    if (error instanceof CannotPlan) return undefined;
    throw error;
  }
}

function planChanged(meant: string, is: string): DocumentEnding {
  return {
    outcome: 'failed',
    code: 'plan-changed',
    message: `What would be done is not what was planned: the plan's digest is ${is.slice(0, 16)}…, meant was ${meant.slice(0, 16)}…. Nothing was changed.`,
    remedy: 'Make a new plan (mode: plan), look at it, and deploy with its digest.',
    changed: false,
  };
}
