import { describe, expect, it } from 'vitest';
import { planOf, program } from '../../test/stand/steps.ts';
import type { MeasureStep, Plan, Step } from '../plan/plan.ts';
import type { ContainerImage, PlanResult, StepResult, StepRunner } from '../plan/progress.ts';
import { executePlan, undoFinishedPlan } from './execute.ts';

const project = { dir: '/srv/stacks/web' };
const measure = (name: string, as: 'before' | 'after'): MeasureStep => ({
  do: 'measure',
  name,
  what: 'images',
  as,
  project,
});
const up = program('', { name: 'up', changes: true });
const upAgain = program('', { name: 'up again', changes: true, argv: ['docker', 'compose', 'up'] });
const check = program('', { name: 'check' });
const web = (image: string): ContainerImage => ({ service: 'web', container: `c-${image}`, reference: 'web', image });
const FAILED: StepResult = { outcome: 'failed', code: 'check-failed', message: 'The check failed', remedy: 'Look.' };

/** Runs no step: each has the result of its name here, or succeeds. */
const runnerOf = (results: Record<string, Partial<StepResult>>): StepRunner => ({
  // biome-ignore lint/correctness/useYield: these steps print nothing.
  async *run(step: Step) {
    return { outcome: 'succeeded', ...results[step.name] };
  },
});

async function resultOf(work: AsyncGenerator<unknown, PlanResult>): Promise<PlanResult> {
  let next = await work.next();
  while (!next.done) next = await work.next();
  return next.value;
}

function execute(steps: Step[], undo: Step[], results: Record<string, Partial<StepResult>>): Promise<PlanResult> {
  const { signal } = new AbortController();
  const plan: Plan = planOf(steps, { undo });
  return resultOf(executePlan(plan, { document: 1, stepRunner: runnerOf({ check: FAILED, ...results }), signal }));
}

describe('the message of a failed document', () => {
  const steps = [measure('images before', 'before'), up, check];
  const undo = [upAgain, measure('images after undo', 'after')];

  it('claims that the previous version runs again only if the undo measured the images of before', async () => {
    const result = await execute(steps, undo, {
      'images before': { seen: [web('v1')] },
      'images after undo': { seen: [{ ...web('v1'), container: 'new' }] },
    });
    expect(result).toMatchObject({
      outcome: 'rolled-back',
      code: 'check-failed',
      message: 'The check failed. The previous version is running again.',
      remedy: 'Look.',
    });
  });

  it('says that the images differ if the undo did not bring back those of before', async () => {
    const { message } = await execute(steps, undo, {
      'images before': { seen: [web('v1')] },
      'images after undo': { seen: [web('v2')] },
    });
    expect(message).toBe('The check failed. The undo steps succeeded, but the images differ from those before.');
  });

  it('names no previous version after a first rollout', async () => {
    const down = program('', { name: 'down', changes: true });
    const results = { 'images before': { seen: [] }, 'images after undo': { seen: [] } };
    const { message } = await execute(steps, [down, measure('images after undo', 'after')], results);
    expect(message).toBe('The check failed. The changes were undone.');
  });

  it('claims nothing about an undo if no undo step changed the host', async () => {
    const result = await execute(steps, [], { 'images before': { seen: [] } });
    expect(result).toMatchObject({ outcome: 'failed', message: 'The check failed', changed: true });
    const withFiles = await execute(steps, [{ do: 'restore', name: 'put files back', of: 'write files' }], {});
    expect(withFiles).toMatchObject({ outcome: 'failed', message: 'The check failed' });
  });

  it('claims only that changes were undone if the undo measured nothing', async () => {
    const measuredBeforeUndo = [...steps.slice(0, 2), measure('images after', 'after'), check];
    const { message } = await execute(measuredBeforeUndo, [upAgain], {
      'images before': { seen: [web('v1')] },
      'images after': { seen: [web('v1')] },
    });
    expect(message).toBe('The check failed. The changes were undone.');
  });

  it('says that an interrupted step was completed if the undo repairs instead of rolling back', async () => {
    const { message } = await execute([up], [program('', { name: 'up once more', changes: true, ifCut: 'up' })], {
      up: { ...FAILED, cut: true },
    });
    expect(message).toBe('The check failed. The interrupted step was completed; nothing was rolled back.');
  });

  it('names the failed undo step and the commands to run by hand', async () => {
    const result = await execute(steps, undo, { 'up again': { outcome: 'failed', message: 'no engine' } });
    expect(result).toMatchObject({
      outcome: 'failed',
      code: 'undo-failed',
      message: 'The check failed. Undoing it failed too, at "up again": no engine.',
      remedy: 'Look at the host now: it is in a mixed state. Run by hand: docker compose up',
      changed: true,
    });
  });

  it('lists the undo steps that succeeded if no command is left to run by hand', async () => {
    const result = await execute(steps, undo, {
      'images after undo': { outcome: 'failed', code: 'docker-unreachable' },
    });
    expect(result).toMatchObject({
      code: 'undo-failed',
      message: 'The check failed. Undoing it failed too, at "images after undo": docker-unreachable.',
      remedy: 'Look at the host now: "images after undo" failed. Undo steps that succeeded before it: "up again".',
    });
    const { remedy } = await execute(steps, undo.slice(1), { 'images after undo': { outcome: 'failed' } });
    expect(remedy).toBe('Look at the host now: "images after undo" failed. Undo steps that succeeded before it: none.');
  });
});

describe('the message of a document that is undone after it succeeded', () => {
  const plan = planOf([up], { undo: [{ ...upAgain, ifBegan: 'up' }] });
  const finished = {
    steps: [{ name: 'up', outcome: 'succeeded' as const, ms: 1, phase: 'do' as const }],
    images: [],
    files: { written: [], removed: [] },
  };
  const undoWith = (results: Record<string, Partial<StepResult>>) => {
    const work = undoFinishedPlan(plan, finished, { document: 1, stepRunner: runnerOf(results) });
    if (!work) throw new Error('nothing to undo');
    return resultOf(work);
  };

  it('says that it was undone', async () => {
    expect(await undoWith({})).toMatchObject({
      outcome: 'rolled-back',
      code: 'undone',
      message: 'The document succeeded and was undone.',
      changed: false,
    });
  });

  it('states a failure of the undo once', async () => {
    expect(await undoWith({ 'up again': { outcome: 'failed', message: 'no engine' } })).toMatchObject({
      outcome: 'failed',
      code: 'undo-failed',
      message: 'The document succeeded, but undoing it failed at "up again": no engine.',
      changed: true,
    });
  });
});

describe('a plan without a version to bring back', () => {
  const oneWay = 'There is no version to bring back: It is privileged.';
  const finish = (steps: Step[], results: Record<string, Partial<StepResult>>) =>
    resultOf(
      executePlan(planOf(steps, { oneWay }), {
        document: 1,
        stepRunner: runnerOf(results),
        signal: new AbortController().signal,
      }),
    );

  it('says so when it fails after a change, and only then', async () => {
    expect(await finish([up, check], { check: FAILED })).toMatchObject({
      outcome: 'failed',
      changed: true,
      message: `The check failed. ${oneWay}`,
    });
    expect(await finish([check, up], { check: FAILED })).toMatchObject({
      outcome: 'failed',
      changed: false,
      message: 'The check failed',
    });
  });

  it('can’t be undone after it has succeeded', async () => {
    const finished = {
      steps: [{ name: 'up', outcome: 'succeeded' as const, ms: 1, phase: 'do' as const }],
      images: [],
    };
    const files = { written: [], removed: [] };
    const work = undoFinishedPlan(
      planOf([up], { oneWay }),
      { ...finished, files, changed: true },
      { document: 1, stepRunner: runnerOf({}) },
    );
    expect(work && (await resultOf(work))).toMatchObject({
      outcome: 'failed',
      code: 'undo-failed',
      message: expect.stringContaining(oneWay),
      changed: true,
    });
  });
});
