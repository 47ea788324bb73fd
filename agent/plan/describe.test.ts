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
});
