import { describe, expect, it } from 'vitest';
import { planOf, program } from '../../test/stand/steps.ts';
import { isPlanKnown } from './describe.ts';
import type { Step } from './plan.ts';

describe('a stored plan', () => {
  it('is known only if this version has every kind of its steps', () => {
    const old = { do: 'judge-config', name: 'check config' } as unknown as Step;
    expect(isPlanKnown(planOf([program('')]))).toBe(true);
    for (const place of ['steps', 'undo', 'cleanup', 'late'])
      expect(isPlanKnown({ ...planOf([program('')]), [place]: [old] }), place).toBe(false);
  });

  it('is not known if it brings containers up again without a check of their mounts', () => {
    const revive = { up: program('', { name: 'up' }), ran: [] };
    const wait = (more: object) =>
      ({ do: 'await-healthy', name: 'wait', project: { dir: '/' }, settle: 0, timeout: 1, ...more }) as Step;
    expect(isPlanKnown(planOf([wait({})]))).toBe(true);
    expect(isPlanKnown(planOf([wait({ revive: { ...revive, prepare: [] } })]))).toBe(true);
    expect(isPlanKnown(planOf([wait({ revive })]))).toBe(false);
  });
});
