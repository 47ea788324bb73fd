import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { stackOf } from '../../intents/intent.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import { digestOfPlans } from '../plan/digest.ts';
import type { Plan } from '../plan/plan.ts';
import type { StepRunner } from '../plan/progress.ts';
import type { SecretNames } from '../secrets/config-secrets.ts';
import { addPlanSecrets, addRunSecrets, learningReader, type StackFolder } from '../secrets/learn.ts';
import { listShippedFiles, shippedPath } from '../steps/run-folder.ts';
import type { DocumentProgress } from '../store/runs.ts';
import { type IsOwnWord, Redactor } from '../system/redactor.ts';
import { Detached, Detachment } from './detachment.ts';
import { FIRST_DOCUMENT } from './document-index.ts';
import type { LockQueue } from './lock-queue.ts';
import { LOCK_TIMED_OUT, lockedResult, lockTimeoutOf, waitForLockTimeout } from './lock-timeout.ts';
import type { RunObserver } from './observer.ts';
import { checkPlanDigest, isReadOnlyRun, type PlanningDeps } from './plan-document.ts';
import { CANCELLED_WAITING, makeReceipt, signReceipt } from './receipt.ts';
import { RunDocuments } from './run-documents.ts';
import { type DocumentResults, executeDocuments } from './run-graph.ts';
import { RunLog } from './run-log.ts';
import { undoEarlierRun } from './undo.ts';

/** The parts of the agent that a run uses. */
export interface RunContext extends PlanningDeps {
  agent: string;
  createStepRunner: (runDir: string, redactor: Redactor) => StepRunner & { end(): void };
  /** Secrets of this host in addition to those of its stacks, and agent.yaml's patterns of names. */
  secrets?: () => { own: readonly string[]; names: SecretNames };
  /** Tells the agent's own words, which are not redacted in its sentences. */
  isOwnWord?: IsOwnWord;
  observers: RunObserver[];
  /** The audit log's head, which a receipt carries out of the host. */
  audit?: () => { n: number; digest: string };
  locks: LockQueue;
}

const NO_RUN = { events: 0, head: '', startedAt: '', createdAt: '' };

/** One run: it waits for its locks, executes its documents or undoes those of another run, and ends with a receipt. */
export class Run {
  readonly admitted: AdmittedCommand;
  readonly log: RunLog;
  readonly #context: RunContext;
  readonly #cancelled = new AbortController();
  readonly #redactor: Redactor;
  readonly #detachment: Detachment;
  readonly #warned = new Set<string>();
  /** The plans of a read-only run. */
  #plans: readonly Plan[] = [];

  constructor(context: RunContext, admitted: AdmittedCommand) {
    this.#context = context;
    this.admitted = admitted;
    this.#detachment = new Detachment(this.id);
    this.#redactor = new Redactor(context.isOwnWord);
    const { store, observers, now } = context;
    this.log = new RunLog({
      ...{ admitted, store, observers, now },
      redactor: this.#redactor,
      detachment: this.#detachment,
    });
  }

  get id(): string {
    return this.admitted.command.id;
  }

  /** Stops the current step. The run repairs or undoes what it changed. */
  cancel(): void {
    this.#cancelled.abort();
  }

  /** Leaves the run: its processes continue, and the next agent resumes it. */
  detach(): void {
    this.#detachment.detach();
  }

  /** Executes the run up to its receipt, or until it is detached. `earlier`: progress of an earlier agent. */
  async execute(earlier?: ReadonlyMap<number, DocumentProgress>): Promise<void> {
    const subjects = isReadOnlyRun(this.admitted) ? [] : listSubjects(this.admitted);
    try {
      const { own, names } = this.#secrets();
      const { params } = this.admitted.command;
      const warnings = await addRunSecrets(this.#redactor, { own, names, params, stacks: this.#stackFolders() });
      await this.log.notifyObservers(observer =>
        (earlier ? observer.resumed : observer.started)?.call(observer, this.id, this.admitted),
      );
      for (const text of warnings) {
        this.#warned.add(text);
        if (!earlier) await this.log.append({ kind: 'note', level: 'warning', text });
      }
      await this.#finish(await this.#waitAndExecute(subjects, earlier ?? new Map()));
    } catch (error) {
      if (!(error instanceof Detached)) throw error;
    } finally {
      this.#context.locks.release(this.id, subjects);
    }
  }

  /** Waits for the run's turn, then executes its documents. */
  async #waitAndExecute(subjects: string[], earlier: ReadonlyMap<number, DocumentProgress>): Promise<DocumentResults> {
    const { locks, store } = this.#context;
    const { signal } = this.#cancelled;
    const { turn, blockedBy } = locks.take(this.id, subjects);
    if (blockedBy) await this.log.append({ kind: 'waiting', for: blockedBy.run, what: blockedBy.subject });
    const woken = await Promise.race([
      this.#detachment.until(turn),
      waitForAbort(signal),
      waitForLockTimeout(lockTimeoutOf(this.admitted), signal),
    ]);
    const isNew = earlier.size === 0;
    if (signal.aborted && isNew) return [CANCELLED_WAITING];
    if (woken === LOCK_TIMED_OUT && isNew)
      return [await this.log.appendResult(FIRST_DOCUMENT, lockedResult(blockedBy))];
    await this.#detachment.retryUntilStored(() => store.running(this.id, this.#context.now()));
    const stepRunner = this.#createStepRunner();
    try {
      const changed = isNew
        ? await checkPlanDigest(this.#planningDeps(), this.admitted, work => this.#detachment.until(work))
        : undefined;
      if (changed) return [await this.log.appendResult(FIRST_DOCUMENT, changed)];
      return await this.#executeDocuments(stepRunner, earlier);
    } finally {
      stepRunner?.end();
    }
  }

  #secrets(): { own: readonly string[]; names: SecretNames } {
    return this.#context.secrets?.() ?? { own: [], names: { shown: [], hidden: [] } };
  }

  /** Returns the sources of plans. The redactor learns the secrets of what is rendered for them. */
  #planningDeps(): PlanningDeps {
    return { ...this.#context, look: learningReader(this.#context.look, this.#redactor, this.#secrets().names) };
  }

  #createStepRunner(): ReturnType<RunContext['createStepRunner']> | undefined {
    if (isReadOnlyRun(this.admitted)) return undefined;
    // The folder of the run that is undone holds the files that its steps kept.
    const { folder, createStepRunner } = this.#context;
    return createStepRunner(join(folder, this.admitted.command.undo?.run ?? this.id), this.#redactor);
  }

  async #executeDocuments(
    stepRunner: StepRunner | undefined,
    earlier: ReadonlyMap<number, DocumentProgress>,
  ): Promise<DocumentResults> {
    const documents = new RunDocuments({
      ...this.#context,
      ...this.#planningDeps(),
      admitted: this.admitted,
      log: this.log,
      redactor: this.#redactor,
      learnPlan: plan => addPlanSecrets(this.#redactor, plan, this.#secrets().names),
      warned: this.#warned,
      detachment: this.#detachment,
      signal: this.#cancelled.signal,
      ...{ stepRunner, earlier },
    });
    this.#plans = documents.plans;
    const { undo } = this.admitted.command;
    return undo && stepRunner ? undoEarlierRun(undo, this.#context.store, documents) : executeDocuments(documents);
  }

  async #finish(results: DocumentResults): Promise<void> {
    const { store, agent, keys, folder, now, audit } = this.#context;
    const bytes = await folderSize(join(folder, this.id));
    const { events, head, startedAt, createdAt } = store.find(this.id) ?? NO_RUN;
    const times = { startedAt: startedAt ?? createdAt, finishedAt: now() };
    const made = makeReceipt(this.admitted, agent, results, {
      events,
      head,
      ...times,
      ...(audit ? { audit: audit() } : {}),
      ...this.#planDigest(),
      baselines: store.deployments.baselinesOf(this.id),
    });
    const receipt = { ...made, documents: this.#redactor.sentences(made.documents) };
    await this.#detachment.retryUntilStored(() =>
      store.end(this.id, receipt.outcome, signReceipt(receipt, keys()), receipt.finished_at, {
        bytes,
        isDeployed: ({ stack, intent }) =>
          receipt.documents.some(one => one.outcome === 'succeeded' && one.stack === stack && one.name === intent),
      }),
    );
    await this.log.notifyObservers(observer => observer.ended?.(this.id, receipt, this.admitted));
  }

  /** Only a complete plan has a digest. A dry run reads nothing of the host. */
  #planDigest(): { planDigest?: string } {
    const { command, documents } = this.admitted;
    const isComplete = this.#plans.length === documents.length && !command.dry_run;
    return isComplete ? { planDigest: digestOfPlans(command, this.#plans, this.#context.keys()[0]) } : {};
  }

  /** Returns the folders of the run's stacks, with the shipped files that belong there. A dry run reads none. */
  #stackFolders(): StackFolder[] {
    const { site, folder } = this.#context;
    const { command, documents } = this.admitted;
    if (command.dry_run) return [];
    const intents = new Map(documents.map(({ document: { intent } }) => [stackOf(intent), intent]));
    intents.delete('');
    return [...intents].map(([stack, intent]) => {
      const path = join(site().stacksRoot, stack);
      const shipped = listShippedFiles(command.files, intent).map(file => {
        return [join(path, file.path), shippedPath(join(folder, this.id), file.sha256)] as const;
      });
      return { path, shipped: new Map(shipped) };
    });
  }
}

function waitForAbort(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function listSubjects(admitted: AdmittedCommand): string[] {
  return [
    ...new Set(
      admitted.documents.flatMap(({ document, executor }) => executor.lockSubjects(document.intent, document)),
    ),
  ].sort();
}

/** Returns the total size of the files below a folder in bytes. */
async function folderSize(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])) {
    if (!entry.isFile()) continue;
    bytes += (await stat(join(entry.parentPath, entry.name)).catch(() => undefined))?.size ?? 0;
  }
  return bytes;
}
