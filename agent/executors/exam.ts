import { describe, expect, it } from 'vitest';
import type { HostReader, Plan } from '../plan/plan.ts';
import { blindHostReader } from '../system/host-reader.ts';
import type { Executor, Intent, PlanContext } from './executor.ts';

/** A case of the contract test: an intent, its context, and a host that answers. */
export interface ContractCase {
  name: string;
  intent: Intent;
  context: PlanContext;
  look: HostReader;
}

/** Tests the contract that every executor must meet. */
export function testExecutorContract(executor: Executor, cases: ContractCase[]): void {
  describe.each(cases)(`the executor ${executor.kind} meets the contract with $name`, ({ intent, context, look }) => {
    const plan = (reader: HostReader = look) => executor.plan(intent, context, reader);

    it('supports the intent, and names the subjects that it locks', () => {
      expect(executor.supports(intent)).toBe(true);
      const subjects = executor.lockSubjects(intent, context.document);
      expect(subjects).not.toEqual([]);
      for (const subject of subjects) expect(subject).toMatch(/^\S+ \S/);
    });

    it('returns the same plan for the same input, as plain data', async () => {
      const first = await plan();
      expect(await plan()).toEqual(first);
      expect(JSON.parse(JSON.stringify(first))).toEqual(first);
    });

    it('gives every step a unique name, and undo and cleanup name existing steps', async () => {
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

    it('gives every program a timeout, a failure code and a remedy', async () => {
      for (const step of allSteps(await plan())) {
        if (step.do !== 'start') continue;
        expect(step.timeout).toBeGreaterThan(0);
        expect(step.failure.remedy.length).toBeGreaterThan(10);
        expect(step.failure.code).toMatch(/^[a-z][a-z-]+$/);
      }
    });

    it('writes only under the folders that the site gives it', async () => {
      for (const step of allSteps(await plan())) {
        if (step.do !== 'write') continue;
        for (const { path, root } of step.changes) {
          expect(path.startsWith(`${root}/`)).toBe(true);
          expect([context.site.stacksRoot, context.site.memory]).toContain(root);
        }
      }
    });

    it('claims absolute paths under absolute roots', () => {
      for (const { path, root } of executor.claimPaths(intent, context.site))
        expect(path.startsWith('/') && root.startsWith('/')).toBe(true);
    });

    it('plans without a host too: the steps are among those of the full plan, in the same order', async () => {
      const names = ({ steps }: Plan) => steps.map(step => step.name);
      const blind = names(await plan(blindHostReader));
      expect(names(await plan()).filter(name => blind.includes(name))).toEqual(blind);
    });
  });
}

function allSteps({ steps, undo, cleanup }: Plan) {
  return [...steps, ...undo, ...cleanup];
}
