import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CheckTargetStep } from '../../plan/plan.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-target-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** Checks a destination in a process whose root can't change owners, as on a share with root_squash. */
function checkWithoutChown(changes: Partial<CheckTargetStep>): { outcome: string; code?: string } {
  const step: CheckTargetStep = {
    do: 'check-target',
    name: 't',
    path: dir,
    needs: 0,
    folder: join(dir, 'x'),
    ...changes,
  };
  const code = `
    import { runTargetCheck } from '${resolve('agent/steps/backup/preflight.ts')}';
    const work = runTargetCheck(${JSON.stringify(step)});
    let next = await work.next();
    while (!next.done) next = await work.next();
    console.log(JSON.stringify(next.value));`;
  const without = ['--bounding-set', '-chown', '--inh-caps', '-chown'];
  const node = [process.execPath, '--input-type=module-typescript', '--eval', code];
  return JSON.parse(execFileSync('setpriv', [...without, ...node], { encoding: 'utf8' }));
}

describe('a destination on which root can’t set owners', () => {
  it('is refused only if files must keep their owners', () => {
    expect(checkWithoutChown({ owners: true })).toMatchObject({ outcome: 'failed', code: 'destination-ownership' });
    expect(checkWithoutChown({})).toMatchObject({ outcome: 'succeeded' });
    expect(readdirSync(join(dir, 'x'))).toEqual([]);
  });
});
