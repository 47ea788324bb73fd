import { describe, expect, it } from 'vitest';
import type { HostReader, Plan } from '../plan/plan.ts';
import { blindHostReader } from '../system/host-reader.ts';
import type { Executor, Intent, PlanContext } from './executor.ts';

/** One question of the exam: an intent with what it is planned from, and a look that answers. */
export interface ContractCase {
  name: string;
  intent: Intent;
  context: PlanContext;
  look: HostReader;
}

/** The contract that every executor sits. */
export function testExecutorContract(executor: Executor, questions: ContractCase[]): void {
  describe.each(questions)(`the executor ${executor.kind} sits the exam: $name`, ({ intent, context, look }) => {
    const plan = (with_: HostReader = look) => executor.plan(intent, context, with_);

    it('takes the intent, and names what it locks', () => {
      expect(executor.supports(intent)).toBe(true);
      const subjects = executor.lockSubjects(intent, context.document);
      expect(subjects).not.toEqual([]);
      for (const subject of subjects) expect(subject).toMatch(/^\S+ \S/);
    });

    it('plans the same from the same, as plain data', async () => {
      const first = await plan();
      expect(await plan()).toEqual(first);
      expect(JSON.parse(JSON.stringify(first))).toEqual(first);
    });

    it('gives every step a name of its own, and undo and cleanup speak of steps that are there', async () => {
      const { steps, undo, cleanup } = await plan();
      const names = [...steps, ...undo, ...cleanup].map(step => step.name);
      expect(new Set(names).size).toBe(names.length);
      const done = new Set(steps.map(step => step.name));
      for (const step of [...undo, ...cleanup]) {
        for (const other of [step.ifBegan, step.unlessBegan, step.ifCut, step.do === 'restore' ? step.of : undefined]) {
          if (other !== undefined) expect(done).toContain(other);
        }
      }
    });

    it('starts only programs with a limit of time, and a remedy for when they fail', async () => {
      for (const step of allSteps(await plan())) {
        if (step.do !== 'start') continue;
        expect(step.timeout).toBeGreaterThan(0);
        expect(step.failure.remedy.length).toBeGreaterThan(10);
        expect(step.failure.code).toMatch(/^[a-z][a-z-]+$/);
      }
    });

    it('writes only under the folders of this host that are given to it', async () => {
      for (const step of allSteps(await plan())) {
        if (step.do !== 'write') continue;
        for (const { path, root } of step.changes) {
          expect(path.startsWith(`${root}/`)).toBe(true);
          expect([context.site.stacksRoot, context.site.memory]).toContain(root);
        }
      }
    });

    it('claims every path that it names', () => {
      for (const { path, root } of executor.claimPaths(intent, context.site))
        expect(path.startsWith('/') && root.startsWith('/')).toBe(true);
    });

    it('plans blind too, with steps that are among those of a look, in their order', async () => {
      const names = (made: Plan) => made.steps.map(step => step.name);
      const blind = names(await plan(blindHostReader));
      expect(names(await plan()).filter(name => blind.includes(name))).toEqual(blind);
    });
  });
}

function allSteps({ steps, undo, cleanup }: Plan) {
  return [...steps, ...undo, ...cleanup];
}
