import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CheckTargetStep } from '../plan/plan.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-target-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** Looks at a destination in a process whose root may not change owners, as on a share that squashes root. */
function squashed(changes: Partial<CheckTargetStep>): { outcome: string; code?: string } {
  const step: CheckTargetStep = {
    do: 'check-target',
    name: 't',
    path: dir,
    needs: 0,
    folder: join(dir, 'x'),
    ...changes,
  };
  const code = `
    import { runTargetCheck } from '${resolve('agent/steps/backup-preflight.ts')}';
    const work = runTargetCheck(${JSON.stringify(step)});
    let next = await work.next();
    while (!next.done) next = await work.next();
    console.log(JSON.stringify(next.value));`;
  const without = ['--bounding-set', '-chown', '--inh-caps', '-chown'];
  const node = [process.execPath, '--input-type=module-typescript', '--eval', code];
  return JSON.parse(execFileSync('setpriv', [...without, ...node], { encoding: 'utf8' }));
}

describe('a destination on which root may not set owners', () => {
  it('is refused where files are to keep theirs, and is good enough where not', () => {
    expect(squashed({ owners: true })).toMatchObject({ outcome: 'failed', code: 'destination-ownership' });
    expect(squashed({})).toMatchObject({ outcome: 'succeeded' });
    expect(readdirSync(join(dir, 'x'))).toEqual([]);
  });
});
