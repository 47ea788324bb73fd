import type { ImageChange, ReceiptStep } from '../../protocol/receipt.ts';
import type { Step } from '../plan/plan.ts';
import type { BackupFacts, ContainerImage, DrillFacts, Phase, PlanResult, StepResult } from '../plan/progress.ts';

/** Results of a plan's steps so far. */
export class PlanProgress {
  readonly steps: ReceiptStep[];
  readonly files: PlanResult['files'];
  backup?: BackupFacts;
  drill?: DrillFacts;
  /** The containers that `measure` steps saw. */
  readonly measured: { before?: ContainerImage[]; after?: ContainerImage[]; afterUndo?: ContainerImage[] } = {};
  readonly #started: Set<string>;
  readonly #cut = new Set<string>();

  /** `finished`: the result of a plan that is undone after it has succeeded. */
  constructor(
    { steps, files }: Pick<PlanResult, 'steps' | 'files'> = { steps: [], files: { written: [], removed: [] } },
  ) {
    this.steps = [...steps];
    this.files = files;
    this.#started = new Set(steps.flatMap(({ name, phase }) => (phase === 'do' ? [name] : [])));
  }

  record(step: Step, phase: Phase, { ending: result, ms }: { ending: StepResult; ms: number }): void {
    if (phase === 'do') {
      this.#started.add(step.name);
      if (result.cut) this.#cut.add(step.name);
      this.files.written.push(...(result.files?.written ?? []));
      this.files.removed.push(...(result.files?.removed ?? []));
    }
    if (step.do === 'measure' && result.seen) {
      this.measured[step.as] = result.seen;
      if (phase === 'undo') this.measured.afterUndo = result.seen;
    }
    if (result.backup) this.backup = result.backup;
    if (result.drill) this.drill = result.drill;
    this.steps.push({ name: step.name, outcome: result.outcome, ms, phase });
  }

  recordSkipped(step: Step): void {
    this.steps.push({ name: step.name, outcome: 'skipped', ms: 0, phase: 'do' });
  }

  hasStarted(step: Step): boolean {
    return this.#started.has(step.name);
  }

  /** Returns true if the conditions of an undo or cleanup step are met. */
  isDue({ ifBegan, ifCut, unlessBegan }: Step): boolean {
    if (ifBegan !== undefined && !this.#started.has(ifBegan)) return false;
    if (ifCut !== undefined && !this.#cut.has(ifCut)) return false;
    return unlessBegan === undefined || !this.#started.has(unlessBegan);
  }

  /** The receipt's image table: empty if nothing was measured at the end. */
  get images(): ImageChange[] {
    const { before = [], after } = this.measured;
    if (!after) return [];
    const services = [...new Set([...before, ...after].map(({ service }) => service))].sort();
    return services.map(service => {
      const previous = before.find(container => container.service === service);
      const current = after.find(container => container.service === service);
      return {
        service,
        reference: (current ?? previous)?.reference ?? '',
        before: previous?.image ?? null,
        after: current?.image ?? null,
      };
    });
  }

  /** True if containers were replaced, or files written or removed. */
  get hasChanges(): boolean {
    const { before, after } = this.measured;
    const isReplaced = after !== undefined && joinContainerIds(before) !== joinContainerIds(after);
    return isReplaced || this.files.written.length + this.files.removed.length > 0;
  }
}

function joinContainerIds(containers: readonly ContainerImage[] = []): string {
  return containers
    .map(({ container }) => container)
    .sort()
    .join();
}
